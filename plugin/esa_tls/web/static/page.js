// The live view: rows as they come, by server-sent events. Text goes in as text, never as markup. All other views work without this file.
"use strict";
(() => {
  const place = document.getElementById("live");
  if (!place || !window.EventSource) return;
  const MAX_ROWS = 200;
  const body = document.querySelector("#records tbody");
  const state = document.getElementById("state");
  const pause = document.getElementById("pause");
  const none = document.getElementById("none");
  let source = null, shown = 0, leftOut = 0, paused = false;

  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const mark = tone => element("span", tone.word, /^[a-z]+$/.test(tone.tone) ? `tone tone-${tone.tone}` : "plain");
  const cell = (label, ...parts) => {
    const made = element("td");
    made.dataset.label = label;
    made.append(...parts.filter(part => part));
    return made;
  };

  function rowOf(record) {
    const row = element("tr", "", "fresh");
    const time = cell("Time (UTC)", record.time);
    time.className = "time";
    const what = element("th");
    what.scope = "row";
    const name = record.name || record.kind;
    if (record.link.startsWith("/")) {
      const link = element("a", name);
      link.href = record.link;
      what.append(link);
    } else what.append(name);
    what.append(" ", element("small", record.kind + (record.way ? ", " + record.way : "")));
    const mail = [];
    if (record.sender || record.recipients) {
      const arrow = element("span", "→", "arrow");
      arrow.setAttribute("aria-hidden", "true");
      mail.push(element("span", record.sender || "no sender", "address"), " ", arrow, element("span", " to ", "hidden"), " ",
        element("span", record.recipients || "-", "address"));
    }
    row.append(time, what, cell("Mail", record.mail.word && mark(record.mail)), cell("TLS", record.tls.word && mark(record.tls)),
      cell("From, to", ...mail), cell("Other side", record.peer), cell("Result", record.result), cell("Appliance", record.appliance));
    return row;
  }

  function tell() {
    const lost = leftOut ? `, ${leftOut.toLocaleString("en")} not shown as they came too fast` : "";
    state.textContent = `${paused ? "Paused" : "Connected"}: ${shown.toLocaleString("en")} since you opened this view${lost}.`;
  }

  function open() {
    source = new EventSource(place.dataset.stream);
    source.onopen = tell;
    source.onerror = () => { state.textContent = "Not connected; trying again."; };
    source.onmessage = event => {
      const told = JSON.parse(event.data);
      leftOut = told.left_out;
      for (const record of told.rows) body.prepend(rowOf(record));
      shown += told.rows.length;
      while (body.rows.length > MAX_ROWS) body.lastElementChild.remove();
      none.hidden = body.rows.length > 0;
      tell();
    };
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    if (paused) { source.close(); tell(); } else open();
  });
  state.textContent = "Connecting.";
  open();
})();
