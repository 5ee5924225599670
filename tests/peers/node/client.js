// Sends the lines of its standard input with the client of @fluent-org/logger, some in a frame, and says "sent N" for each frame that was
// acknowledged. Its one argument is a JSON object: mode, lines, tag, port or path, and if wanted key, username, password, ca, cert, certKey.
"use strict";
const fs = require("fs");
const {isUtf8} = require("buffer");
const {FluentClient, EventTime} = require("@fluent-org/logger");

const wanted = JSON.parse(process.argv[2]);

function linesOf(data) {
  const lines = [];
  for (let at = 0; at < data.length;) {
    const end = data.indexOf(10, at);
    lines.push(data.subarray(at, end < 0 ? data.length : end));
    at = end < 0 ? data.length : end + 1;
  }
  return lines;
}

async function main() {
  const socket = wanted.path ? {path: wanted.path} : {host: "127.0.0.1", port: wanted.port};
  if (wanted.ca) {
    socket.tls = {ca: fs.readFileSync(wanted.ca), servername: "localhost"};
    if (wanted.cert) Object.assign(socket.tls, {cert: fs.readFileSync(wanted.cert), key: fs.readFileSync(wanted.certKey)});
  }
  const client = new FluentClient(wanted.tag, {
    eventMode: wanted.mode,
    ack: {ackTimeout: 10000},
    milliseconds: true,
    security: wanted.key && {
      clientHostname: "node-client",
      sharedKey: wanted.key,
      username: wanted.username,
      password: wanted.password,
    },
    socket,
  });
  client.socketOn("error", error => console.log("socket error", error.message));
  const lines = linesOf(fs.readFileSync(0));
  const time = new EventTime(1700000000, 123456789);
  for (let at = 0; at < lines.length; at += wanted.lines) {
    const some = lines.slice(at, at + wanted.lines);
    await Promise.all(some.map(line => client.emit({log: isUtf8(line) ? line.toString() : line}, time)));
    console.log("sent", some.length);
  }
  await client.disconnect();
}

main().catch(error => {
  console.log("failed", error.message);
  process.exit(1);
});
