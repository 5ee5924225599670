// Reads a JSON list of LogQL queries from standard input. Writes for each where the grammar finds an error, and the names of labels and
// structured metadata in it: {"errors": [[from, to], ...], "names": [...]}.
"use strict";
const fs = require("fs");
const {parser} = require("@grafana/lezer-logql");

function look(query) {
  const errors = [], names = [];
  parser.parse(query).iterate({
    enter: node => {
      if (node.type.isError) errors.push([node.from, node.to]);
      if (node.name === "Identifier") names.push(query.slice(node.from, node.to));
    },
  });
  return {errors, names};
}

process.stdout.write(JSON.stringify(JSON.parse(fs.readFileSync(0, "utf8")).map(look)));
