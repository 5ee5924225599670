// The server of @fluent-org/logger: says "listening PORT", then "entry JSON" for each entry, with tag, time and record. It acknowledges
// before it hands entries over. Its one argument is a JSON object: if wanted port, key, users, cert, certKey, ca (of clients).
"use strict";
const fs = require("fs");
const {FluentServer} = require("@fluent-org/logger");

const wanted = JSON.parse(process.argv[2]);
const server = new FluentServer({
  listenOptions: {host: "127.0.0.1", port: wanted.port || 0},
  tlsOptions: wanted.cert && {
    cert: fs.readFileSync(wanted.cert),
    key: fs.readFileSync(wanted.certKey),
    ca: wanted.ca && fs.readFileSync(wanted.ca),
    requestCert: Boolean(wanted.ca),
    rejectUnauthorized: Boolean(wanted.ca),
  },
  security: wanted.key && {
    serverHostname: "node-server",
    sharedKey: wanted.key,
    authorize: Boolean(wanted.users),
    userDict: wanted.users || {},
  },
});
server.on("entry", (tag, time, record) => console.log("entry", JSON.stringify({tag, seconds: time.epoch, nanoseconds: time.nano, record})));
server.listen().then(() => console.log("listening", server.port));
