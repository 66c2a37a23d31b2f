// Draws the report from the JSON in the page and from nothing else. Text from data enters the page through text nodes and
// attribute values alone, so it never becomes markup. Every number is in the page as text: a cell or bar carries it
// unrounded as `data-value`, under a `data-key` that names its row and field.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const NOTHING = "–";
  const COLOURS = 8;
  const DASHES = [[], [9, 4], [2, 3], [12, 4, 2, 4], [5, 3], [1, 4], [14, 3, 5, 3], [7, 7]];
  const hidden = new Set();
  const charts = [];

  // ---- elements -------------------------------------------------------------------------------------------------------

  function el(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colourVar = (series) => `--c${series % COLOURS}`;
  const label = (series) => data.series[series].label;

  // The line as charts draw it, dashes and all.
  function swatch(series) {
    const made = el("span", { class: "swatch", "aria-hidden": "true" });
    const colour = `var(${colourVar(series)})`;
    let at = 0;
    const stops = DASHES[series % COLOURS].map((length, place) => {
      const from = at;
      at += length;
      return `${place % 2 === 0 ? colour : "transparent"} ${from}px ${at}px`;
    });
    made.style.background = stops.length > 0 ? `repeating-linear-gradient(90deg, ${stops.join(", ")})` : colour;
    return made;
  }

  // ---- numbers --------------------------------------------------------------------------------------------------------

  const known = (value) => value !== null && value !== undefined;
  const whole = (value) => Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ",");
  function short(value) {
    const size = Math.abs(value);
    if (size >= 999.5) return whole(value);
    if (size >= 99.95) return value.toFixed(0);
    return size >= 9.995 ? value.toFixed(1) : value.toFixed(2);
  }
  const micros = (ns) => short(ns / 1e3);
  const percent = (share) => `${(share * 100).toFixed(0)} %`;
  const seconds = (s) => `${s.toFixed(1)} s`;
  function time(ns) {
    if (ns < 1e3) return `${short(ns).replace(/\.?0+$/, "")} ns`;
    if (ns < 1e6) return `${short(ns / 1e3)} µs`;
    return ns < 1e9 ? `${short(ns / 1e6)} ms` : `${short(ns / 1e9)} s`;
  }
  const tickTime = (ns) => time(ns).replace(/(\.\d*?)0+ /, "$1 ").replace(". ", " ");
  const tickNumber = (value) => (Math.abs(value) >= 1e6 ? `${+(value / 1e6).toPrecision(3)} M`
    : Math.abs(value) >= 1e4 ? `${+(value / 1e3).toPrecision(3)} k` : `${+value.toPrecision(3)}`);

  // ---- tables ---------------------------------------------------------------------------------------------------------

  // A cell of a figure. An invalid figure is not in the page at all: the word stands in its place.
  function cell(row, field, value, words) {
    if (row.invalid.length > 0) return el("td", { class: "invalid", "data-key": `${row.id}/${field}` }, "INVALID");
    if (!known(value)) return el("td", { "data-key": `${row.id}/${field}` }, NOTHING);
    return el("td", { "data-key": `${row.id}/${field}`, "data-value": value }, words(value));
  }

  function spreadCell(row, field, spread, words) {
    const made = cell(row, field, spread && spread.median, words);
    if (spread && known(spread.median) && row.invalid.length === 0 && row.repeats > 1) {
      const ends = el("span", { class: "spread" });
      for (const end of ["min", "max"]) {
        ends.append(end === "max" ? "–" : "",
          el("span", { "data-key": `${row.id}/${field}.${end}`, "data-value": spread[end] }, words(spread[end])));
      }
      made.append(ends);
    }
    return made;
  }

  // The caption stands outside what scrolls, so that a narrow window shows it whole.
  let captions = 0;
  function scroll(caption, table) {
    const id = `caption-${captions++}`;
    return el("div", { class: "table" }, el("p", { class: "soft", id }, caption),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": id }, table));
  }

  const header = (heads) => el("thead", {}, el("tr", {},
    ...heads.map((head, at) => el("th", { scope: "col", class: at === 0 ? "name" : head === "load" || head === "raw loop" ? "text" : null }, head))));

  // Phases and groups in order, each with the rows of its engines.
  function works(rows) {
    const found = new Map();
    for (const row of rows) {
      const key = JSON.stringify([row.phase, row.group]);
      if (!found.has(key)) found.set(key, []);
      found.get(key).push(row);
    }
    return [...found.values()];
  }
  const workName = (row) => (row.main ? row.phase : `${row.phase}: ${row.group}`);

  function figures(caption, heads, rows, cells) {
    const body = el("tbody");
    for (const work of works(rows)) {
      body.append(el("tr", { class: "group" }, el("th", { colspan: heads.length, scope: "rowgroup" }, el("span", {}, workName(work[0])))));
      for (const row of work) {
        body.append(el("tr", { "data-series": row.series },
          el("th", { scope: "row", class: "name" }, swatch(row.series), label(row.series)), ...cells(row)));
      }
    }
    return scroll(caption, el("table", {}, header(heads), body));
  }

  const PERCENTILES = [["p50", "p50"], ["p99", "p99"], ["p999", "p99.9"], ["p9999", "p99.99"], ["max", "max"]];

  function rateCell(row) {
    const made = spreadCell(row, "rate", row.rate, whole);
    if (row.partial && row.invalid.length === 0) made.prepend(el("span", { class: "invalid" }, "PARTIAL "));
    return made;
  }

  const speedTable = () => figures(
    "Speed. Rates: operations a second, median of the repeats (least–most). Response time from the intended start, in µs, all repeats together; – where too few samples lie beyond.",
    ["engine", "load", "operations", "rate /s", ...PERCENTILES.map(([, name]) => `${name} µs`), "steady from"], data.rows,
    (row) => [
      el("td", { class: "text" }, row.load),
      cell(row, "operations", row.operations, whole),
      rateCell(row),
      ...PERCENTILES.map(([field]) => cell(row, `response.${field}`, row.response[field], micros)),
      known(row.steady_from_s) || row.invalid.length > 0 ? cell(row, "steady_from_s", row.steady_from_s, seconds)
        : el("td", { "data-key": `${row.id}/steady_from_s`, title: row.steady_why }, "never"),
    ]);

  const openTable = (rows) => figures(
    "Open loops. Service time from the actual start and the generator's own lag, in µs.",
    ["engine", "asked /s", "reached /s", "service p50", "service p99", "service p99.9", "lag p99", "lag max", "schedule"], rows,
    (row) => [
      el("td", { "data-key": `${row.id}/asked_rate`, "data-value": row.schedule.asked_rate }, whole(row.schedule.asked_rate)),
      spreadCell(row, "reached", row.rate, whole),
      ...["p50", "p99", "p999"].map((field) => cell(row, `service.${field}`, row.service[field], micros)),
      // Lag is no figure of the engine's: it is why the others are invalid, and so is shown.
      ...["lag_p99", "lag_max"].map((field) => el("td", {}, known(row.schedule[field]) ? micros(row.schedule[field]) : NOTHING)),
      row.invalid.length > 0 ? el("td", { class: "invalid" }, "NOT KEPT") : el("td", {}, "kept"),
    ]);

  const COST = [
    ["cpu_per_million", "CPU s / M ops", short], ["write_amp", "write amp: engine", short],
    ["write_amp_process", "process", short], ["write_amp_device", "device", short],
    ["reads_per_op", "reads / op", short], ["read_kib_per_op", "KiB read / op", short],
    ["space_amp", "space amp", short], ["peak_mib", "peak MiB", short], ["device_utilisation", "device busy", percent],
  ];
  const costTable = () => figures(
    "Cost of each phase. Write amplification: bytes written for each byte of the user's, by the engine's counters, by /proc/self/io (process) and by /proc/diskstats (device). Reads: for each get or scan.",
    ["engine", ...COST.map(([, name]) => name)], data.rows.filter((row) => row.cost),
    (row) => COST.map(([field, , words]) => cell(row, `cost.${field}`, row.cost[field], words)));

  const deviceTable = (rows) => figures(
    "Beside the raw device: the same work by a plain loop, just before and just after. Drift: how far those two lie apart.",
    ["engine", "raw loop", "device /s", "engine ÷ device", "drift"], rows,
    (row) => [
      el("td", { class: "text" }, row.device.what),
      el("td", { "data-key": `${row.id}/device.rate`, "data-value": row.device.rate }, whole(row.device.rate)),
      spreadCell(row, "device.ratio", row.device.ratio, percent),
      el("td", { class: row.device.drift > 0.1 ? "invalid" : null, "data-key": `${row.id}/device.drift`, "data-value": row.device.drift }, percent(row.device.drift)),
    ]);

  function fairnessTable() {
    const mib = (bytes) => short(bytes / 1048576);
    const rows = [
      ["name", (given) => given.engine], ["durability", (given) => given.durability], ["I/O", (given) => given.io],
      ["cache, MiB", (given) => (known(given.cache_bytes) ? mib(given.cache_bytes) : "page cache")],
      ["memtables, MiB", (given) => (known(given.memtable_bytes) ? mib(given.memtable_bytes) : "none")],
      ["compression", (given) => given.compression], ["threads", (given) => given.threads], ["cores", (given) => given.cores],
    ];
    const body = el("tbody", {}, ...rows.map(([name, value]) => el("tr", {},
      el("th", { scope: "row", class: "name" }, name),
      ...data.series.map((series) => el("td", { class: "text" }, value(series.fairness))))));
    const walk = (count) => (known(count) ? whole(count) : "not verified");
    body.append(el("tr", {}, el("th", { scope: "row", class: "name" }, "entries verified at the end, each repeat"),
      ...data.series.map((series) => el("td", { class: "text" }, series.verified.map(walk).join("; ")))));
    const head = el("thead", {}, el("tr", {}, el("td", {}),
      ...data.series.map((series, at) => el("th", { scope: "col", class: "text" }, swatch(at), series.label))));
    const notes = el("ol", { class: "notes" });
    for (const series of data.series) {
      for (const choice of series.fairness.choices) notes.append(el("li", {}, `${series.label}: ${choice}`));
    }
    return el("div", {}, scroll("Settings and versions. Figures of engines that differ in durability, I/O or memory are not of the same work.", el("table", {}, head, body)),
      notes.childElementCount > 0 ? el("h3", {}, "Options chosen, and why") : null, notes);
  }

  // ---- bars -----------------------------------------------------------------------------------------------------------

  function bars(name, title, entries, words) {
    const most = Math.max(...entries.map((entry) => (entry.row.invalid.length > 0 ? 0 : entry.high)), 0);
    const made = el("div", { class: "bars", role: "list", "aria-label": `${name}: ${title}` });
    for (const entry of entries) {
      const track = el("span", { class: "track", "aria-hidden": "true" });
      const value = el("span", { class: "value" });
      if (entry.row.invalid.length > 0) {
        value.append(el("span", { class: "invalid" }, "INVALID"));
      } else {
        for (const [part, pattern] of entry.parts) {
          const fill = el("span", { class: `fill ${pattern}` });
          fill.style.width = `${most > 0 ? (100 * part) / most : 0}%`;
          fill.style.backgroundColor = `var(${colourVar(entry.row.series)})`;
          track.append(fill);
        }
        if (entry.spread && entry.row.repeats > 1) {
          const whisker = el("span", { class: "whisker" });
          whisker.style.left = `${(100 * entry.spread.min) / most}%`;
          whisker.style.width = `${(100 * (entry.spread.max - entry.spread.min)) / most}%`;
          track.append(whisker);
        }
        value.append(el("span", { "data-bar": `${entry.row.id}/${entry.field}`, "data-value": entry.value }, words(entry.value)));
        if (entry.row.partial) value.prepend(el("span", { class: "invalid" }, "PARTIAL "));
      }
      made.append(el("div", { class: "bar", role: "listitem", "data-series": entry.row.series },
        el("span", { class: "name" }, label(entry.row.series)), track, value));
    }
    return el("div", {}, el("h4", {}, name), made);
  }

  function rateBars() {
    const made = works(data.rows).map((work) => bars(workName(work[0]), "operations a second", work.map((row) => ({
      row, field: "rate", value: row.rate.median, high: row.rate.max, parts: [[row.rate.median, ""]], spread: row.rate,
    })), whole));
    return el("div", { class: "two" }, ...made);
  }

  function costBars() {
    const rows = data.rows.filter((row) => row.cost);
    const box = el("div", {});
    const add = (title, note, field, words, parts) => {
      const chosen = rows.filter((row) => known(row.cost[field]));
      if (chosen.length === 0) return;
      const entry = (row) => ({
        row, field: `cost.${field}`, value: row.cost[field], high: row.cost[field],
        parts: parts ? parts.map(([part, pattern]) => [row.cost[part], pattern]) : [[row.cost[field], ""]],
      });
      const made = works(chosen).map((work) => bars(work[0].phase, title, work.map(entry), words));
      box.append(el("h3", {}, title[0].toUpperCase() + title.slice(1)), note, el("div", { class: "two" }, ...made));
    };
    add("write amplification", el("p", { class: "soft" }, "By the engine's own counters:", el("span", { class: "key" }), "log",
      el("span", { class: "key stripes" }), "flush", el("span", { class: "key dots" }), "compaction. Engines that do not tell are left out."),
    "write_amp", short, [["write_amp_log", ""], ["write_amp_flush", "stripes"], ["write_amp_compaction", "dots"]]);
    add("bytes sent to the device for each byte of the user's", "", "write_amp_process", short);
    add("space amplification", "", "space_amp", short);
    add("processor seconds for a million operations", "", "cpu_per_million", short);
    add("peak memory, MiB", "", "peak_mib", short);
    return box;
  }

  // ---- charts ---------------------------------------------------------------------------------------------------------

  // A chart that can be drawn anew: when the colour scheme, the width or a choice changes. `describe` gives
  // { x, lines: [{ series, label, values, thin }], options, after } as of now.
  function chart(title, describe) {
    const place = el("div", { class: "chart", role: "img", "aria-label": `${title}; its numbers are in the table below` });
    const figure = el("figure", {}, el("figcaption", {}, title), place);
    const made = { place, describe, plot: null, lines: [] };
    made.draw = () => {
      if (made.plot) made.plot.destroy();
      const { x, lines, options } = describe();
      made.lines = lines;
      const width = Math.max(Math.floor(place.clientWidth), 200);
      made.plot = new uPlot({
        width, height: width < 500 ? 240 : 300, legend: { live: true }, cursor: { drag: { x: false, y: false } },
        ...options,
        series: [options.x, ...lines.map((line) => ({
          label: line.label, scale: "y", show: !hidden.has(line.series), stroke: css(colourVar(line.series)),
          width: line.thin ? 1.2 : 2.2, dash: DASHES[line.series % COLOURS], alpha: line.thin ? 0.75 : 1, spanGaps: !line.gaps,
          points: { show: options.points === true, size: 7, fill: css(colourVar(line.series)) }, paths: line.paths,
          value: (_, value) => (known(value) ? options.words(value) : NOTHING),
        }))],
      }, [x, ...lines.map((line) => line.values)], place);
      // uPlot's labels toggle a line by mouse alone; the buttons above do it for everybody.
      made.plot.root.querySelectorAll(".u-series th").forEach((head, at) => {
        head.style.pointerEvents = "none";
        if (at > 0) head.querySelector(".u-label").prepend(swatch(lines[at - 1].series));
      });
    };
    charts.push(made);
    return { figure, made };
  }

  const axis = (name, more) => ({
    stroke: css("--soft"), grid: { stroke: css("--grid"), width: 1 }, ticks: { stroke: css("--grid"), width: 1 },
    label: name, labelSize: 18, labelGap: 0, size: 34, labelFont: "12px system-ui, DejaVu Sans, sans-serif", font: "12px system-ui, DejaVu Sans, sans-serif", ...more,
  });
  const decades = (_, low, high) => {
    if (!(low > 0)) return [1, 10];
    return [10 ** Math.floor(Math.log10(low * 1.0001)), 10 ** Math.ceil(Math.log10(high * 0.9999))];
  };
  const logTimes = () => axis(null, {
    size: 62, label: undefined,
    splits: (u) => {
      const [low, high] = [u.scales.y.min, u.scales.y.max];
      const found = [];
      for (let at = Math.round(Math.log10(low)); 10 ** at <= high * 1.001; at++) found.push(10 ** at);
      return found;
    },
    filter: (_, splits) => splits,
    values: (_, values) => values.map(tickTime),
  });

  function choices(title, options, chosen, choose) {
    const made = el("fieldset", { class: "choices" }, el("legend", {}, title));
    for (const [value, name] of options) {
      const button = el("button", { type: "button", "aria-pressed": String(value === chosen) }, name);
      button.addEventListener("click", () => {
        made.querySelectorAll("button").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        choose(value);
      });
      made.append(button);
    }
    return made;
  }

  // The table of a chart's numbers, made when it is first opened: a long run has thousands of windows.
  function numbers(caption, heads, rows, struck) {
    const made = el("details", {}, el("summary", {}, struck ? "Numbers of what is invalid" : "Numbers"));
    made.addEventListener("toggle", () => {
      const body = el("tbody", { class: struck ? "struck" : null }, ...rows().map((cells) => el("tr", {},
        el("th", { scope: "row", class: "name" }, cells[0]), ...cells.slice(1).map((text) => el("td", {}, text)))));
      made.append(scroll(caption, el("table", {}, header(heads), body)));
    }, { once: true });
    return made;
  }

  const NINES = [[0, "0"], [1, "90"], [2, "99"], [3, "99.9"], [4, "99.99"], [5, "99.999"], [6, "99.9999"]];
  const percentileName = (nines) => {
    const rest = 100 * 10 ** -nines;
    return `${(100 - rest).toFixed(Math.max(0, Math.min(6, Math.ceil(nines + 0.3) - 1)))} %`;
  };

  function curveChart(curve) {
    const title = `${curve.phase}${curve.lines.length && curve.group !== "callers" ? `, ${curve.group}` : ""}: ${curve.kind}, response time by percentile`;
    const open = curve.lines.some((line) => line.service);
    let service = open;
    const pad = (values) => data.nines.map((_, at) => (at < values.length ? values[at] : null));
    const { figure, made } = chart(title, () => ({
      x: data.nines,
      lines: curve.lines.flatMap((line) => [
        { series: line.series, label: label(line.series), values: pad(line.response), gaps: true },
        ...(service && line.service ? [{ series: line.series, label: `${label(line.series)}, service`, values: pad(line.service), thin: true, gaps: true }] : []),
      ]),
      options: {
        words: time,
        x: { label: "percentile", value: (_, nines) => (known(nines) ? percentileName(nines) : NOTHING) },
        scales: { x: { time: false, range: () => [0, Math.ceil(Math.max(...curve.lines.map((line) => data.nines[Math.max(line.response.length, 2) - 1])))] }, y: { distr: 3, range: decades } },
        padding: [8, 24, 0, 0],
        axes: [axis("percentile", {
          splits: (u) => NINES.map(([at]) => at).filter((at) => at <= u.scales.x.max),
          values: (_, splits) => splits.map((at) => NINES[at][1]),
        }), logTimes()],
      },
    }));
    if (open) {
      figure.querySelector("figcaption").after(choices("Times", [[true, "response and service (thin)"], [false, "response"]], true,
        (value) => { service = value; made.draw(); }));
    }
    const at = [["50 %", 0.3], ["90 %", 1], ["99 %", 2], ["99.9 %", 3], ["99.99 %", 4], ["99.999 %", 5]];
    const read = (values) => at.map(([, nines]) => {
      const place = data.nines.findIndex((known) => Math.abs(known - nines) < 1e-9);
      return place < values.length ? time(values[place]) : NOTHING;
    });
    const rows = () => curve.lines.flatMap((line) => [["response", line.response], ["service", line.service]]
      .filter(([, values]) => values).map(([name, values]) => [label(line.series), name, whole(line.samples), ...read(values)]));
    figure.append(numbers(title, ["engine", "time", "samples", ...at.map(([name]) => name)], rows));
    return figure;
  }

  // Marks above the plot where an engine compacted, and lines where it became steady.
  function marks(lines) {
    return (u) => {
      const { ctx } = u;
      const ratio = devicePixelRatio;
      ctx.save();
      lines.filter((line) => !hidden.has(line.series)).forEach((line, at) => {
        ctx.fillStyle = ctx.strokeStyle = css(colourVar(line.series));
        const top = u.bbox.top - (at + 1) * 7 * ratio;
        line.compacting.forEach((active, point) => {
          if (!active) return;
          const from = u.valToPos(line.start_s[point], "x", true);
          const to = u.valToPos(line.start_s[point] + line.length_s[point], "x", true);
          ctx.fillRect(from, top, Math.max(to - from, ratio), 5 * ratio);
        });
        if (known(line.steady_from_s)) {
          const x = u.valToPos(line.steady_from_s, "x", true);
          ctx.lineWidth = 1.5 * ratio;
          ctx.setLineDash([4 * ratio, 4 * ratio]);
          ctx.beginPath();
          ctx.moveTo(x, u.bbox.top);
          ctx.lineTo(x, u.bbox.top + u.bbox.height);
          ctx.stroke();
        }
      });
      ctx.restore();
    };
  }

  const MEASURES = [
    ["rate", "throughput", "operations a second", tickNumber, short], ["written", "written", "MiB a second sent to the device", tickNumber, short],
    ["write_amp", "write amplification", "bytes written for each byte of the user's", tickNumber, short],
    ["debt", "compaction debt", "MiB that wait to be compacted", tickNumber, short],
  ];
  const RESPONSES = [["p50", "p50"], ["p99", "p99"], ["max", "longest"]];

  function timeChart(name, what, lines, state, measures, logarithmic) {
    const { figure, made } = chart(`${name}: ${what}`, () => {
      const chosen = lines.filter((line) => line.repeat === state.repeat);
      const [, , unit, ticks, words] = logarithmic ? [] : measures.find(([field]) => field === state.measure);
      // Each window is drawn from its begin to its end.
      const tables = chosen.map((line) => {
        const values = line[logarithmic ? state.response : state.measure];
        const [x, y] = [[], []];
        line.start_s.forEach((start, at) => {
          x.push(start);
          y.push(values[at]);
          if (known(values[at]) && !known(values[at + 1])) { // a step that ends at a gap, or at the end
            x.push(start + line.length_s[at] * 0.9999);
            y.push(values[at]);
          }
        });
        return [x, y];
      });
      const joined = uPlot.join(tables);
      const end = Math.max(...chosen.map((line) => line.start_s.at(-1) + line.length_s.at(-1)));
      return {
        x: joined[0],
        lines: chosen.map((line, at) => ({ series: line.series, label: `${label(line.series)}${line.invalid ? " (INVALID)" : ""}`, values: joined[at + 1], gaps: true, paths: uPlot.paths.stepped({ align: 1 }) })),
        options: {
          words: logarithmic ? time : words,
          x: { label: "second", value: (_, s) => (known(s) ? s.toFixed(1) : NOTHING) },
          padding: [7 * chosen.length + 6, 14, 0, 0],
          scales: { x: { time: false, range: () => [0, end] }, y: logarithmic ? { distr: 3, range: decades } : { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
          axes: [axis("seconds measured"), logarithmic ? logTimes() : axis(unit, { size: 56, values: (_, values) => values.map(ticks) })],
          hooks: { draw: [marks(chosen)] },
        },
      };
    });
    return { figure, made };
  }

  function timeSection(phase) {
    const lines = data.timelines.filter((line) => line.phase === phase && line.start_s.length > 0);
    if (lines.length === 0) return null;
    const repeats = [...new Set(lines.map((line) => line.repeat))].sort((a, b) => a - b);
    const state = { repeat: repeats[0], measure: "rate", response: "p99" };
    const measures = MEASURES.filter(([field]) => lines.some((line) => line[field].some(known)));
    const speed = timeChart(phase, "over time", lines, state, measures, false);
    const latency = timeChart(phase, "response time over time", lines, state, measures, true);
    const both = () => { speed.made.draw(); latency.made.draw(); };
    const caption = (chosen) => chosen.figure.querySelector("figcaption");
    caption(speed).after(choices("Show", measures.map(([field, name]) => [field, name]), "rate", (value) => { state.measure = value; speed.made.draw(); }));
    caption(latency).after(choices("Show", RESPONSES, "p99", (value) => { state.response = value; latency.made.draw(); }));
    const box = el("div", {});
    if (repeats.length > 1) box.append(choices("Repeat", repeats.map((repeat) => [repeat, String(repeat)]), repeats[0], (value) => { state.repeat = value; both(); }));
    const invalid = [...new Set(lines.filter((line) => line.invalid).map((line) => label(line.series)))];
    if (invalid.length > 0) box.append(el("p", { class: "warning" }, el("strong", {}, "INVALID: "), `${invalid.join(", ")} over time is drawn for finding out why the schedule was not kept, and for nothing else.`));
    const warm = Math.max(...lines.map((line) => line.warmup_s));
    const steady = lines.filter((line) => line.repeat === repeats[0]).map((line) => `${label(line.series)} ${known(line.steady_from_s) ? `from ${seconds(line.steady_from_s)}` : "never"}`);
    box.append(el("p", { class: "soft" }, `${warm > 0 ? `Second 0 is the end of a warm-up of ${seconds(warm)}, which is not counted. ` : ""}Blocks above a plot: that engine was compacting. Upright dashes: steady from there (repeat ${repeats[0]}: ${steady.join("; ")}).${lines.some((line) => line.merged > 1) ? " Neighbouring windows were merged: p99 is the worst of them." : ""}`));
    box.append(speed.figure, latency.figure);
    for (const broken of [false, true]) {
      const shown = lines.filter((line) => line.invalid === broken);
      if (shown.length === 0) continue;
      const rows = () => shown.flatMap((line) => line.start_s.map((start, at) => [
        label(line.series), String(line.repeat), start.toFixed(2), known(line.rate[at]) ? short(line.rate[at]) : NOTHING,
        ...["p50", "p99", "max"].map((field) => (known(line[field][at]) ? time(line[field][at]) : NOTHING)),
        ...["written", "write_amp", "debt"].map((field) => (known(line[field][at]) ? short(line[field][at]) : NOTHING)),
        line.compacting[at] ? "yes" : "no",
      ]));
      box.append(numbers(`${phase} over time${broken ? " – INVALID, for diagnosis only" : ""}`,
        ["engine", "repeat", "second", "rate /s", "p50", "p99", "longest", "MiB/s written", "write amp", "debt MiB", "compacting"], rows, broken));
    }
    return box;
  }

  function rateChart(of) {
    const title = `${of.phases.join(", ")}: response time by rate`;
    const state = { field: "p99" };
    const { figure, made } = chart(title, () => {
      const tables = of.lines.map((line) => [line.points.map((point) => point.rate), line.points.map((point) => point[state.field])]);
      const unique = tables.map(([x, y]) => { // uPlot joins on distinct x: points at one rate become the worst of them
        const kept = new Map();
        x.forEach((rate, at) => kept.set(rate, Math.max(kept.get(rate) ?? 0, y[at] ?? 0) || null));
        return [[...kept.keys()], [...kept.values()]];
      });
      const joined = uPlot.join(unique, unique.map(() => [0, 0]));
      return {
        x: joined[0],
        lines: of.lines.map((line, at) => ({ series: line.series, label: line.engine, values: joined[at + 1] })),
        options: {
          words: time, points: true, x: { label: "rate /s", value: (_, rate) => (known(rate) ? whole(rate) : NOTHING) },
          scales: { x: { time: false, range: (_, __, high) => [0, high * 1.05] }, y: { distr: 3, range: decades } },
          padding: [8, 20, 0, 0],
          axes: [axis("operations a second reached", { values: (_, values) => values.map(tickNumber) }), logTimes()],
        },
      };
    });
    figure.querySelector("figcaption").after(choices("Show", [["p50", "p50"], ["p99", "p99"], ["p999", "p99.9"]], "p99", (value) => { state.field = value; made.draw(); }));
    const cellOf = (ns) => (known(ns) ? time(ns) : NOTHING);
    figure.append(numbers(title, ["engine", "load", "rate /s", "p50", "p99", "p99.9"], () => of.lines.flatMap((line) => line.points.map((point) =>
      [line.engine, point.load, whole(point.rate), cellOf(point.p50), cellOf(point.p99), cellOf(point.p999)]))));
    return figure;
  }

  // ---- the page -------------------------------------------------------------------------------------------------------

  function runCard(run, at) {
    const facts = [
      ["command", run.environment.command, "code"], ["when", `${run.environment.date} UTC`], ["commit", run.environment.commit, "code"],
      ["machine", `${run.environment.processor}, ${whole(run.environment.memory_mib)} MiB, Linux ${run.environment.kernel}`],
      ["filesystem", run.environment.filesystem], ["memory limit", run.environment.memory_limit],
      ["load averages at the start", run.environment.load], ["seed, repeats", `${run.seed}, ${run.repeats}`],
    ];
    const list = el("dl", { class: "facts" });
    for (const [name, value, kind] of facts) list.append(el("dt", {}, name), el("dd", { class: kind }, value));
    return el("section", { class: "card" }, data.runs.length > 1 ? el("h3", {}, `#${at + 1} ${run.name}`) : null, list);
  }

  function warnings() {
    const made = data.runs.flatMap((run, at) => (run.interrupted
      ? [el("p", { class: "warning", role: "alert" }, el("strong", {}, "INTERRUPTED: "), `${data.runs.length > 1 ? `#${at + 1} ` : ""}${run.name} was stopped before its end. What is shown was measured, the rest was not.`)] : []));
    const told = new Set();
    const tell = (word, row, why) => {
      const words = `${label(row.series)}, ${row.phase}: ${why}`;
      if (told.has(words)) return;
      told.add(words);
      made.push(el("p", { class: "warning" }, el("strong", {}, `${word}: `), words));
    };
    for (const row of data.rows) {
      row.invalid.forEach((why) => tell("INVALID", row, why));
      if (row.partial && row.invalid.length === 0) tell("PARTIAL", row, row.partial);
    }
    return made;
  }

  function toolbar() {
    const made = el("div", { class: "toolbar", role: "group", "aria-label": "Engines shown in charts" }, el("span", { class: "soft" }, "Engines:"));
    data.series.forEach((series, at) => {
      const button = el("button", { type: "button", "aria-pressed": "true" }, swatch(at), series.label);
      button.addEventListener("click", () => {
        const show = hidden.has(at);
        if (show) hidden.delete(at); else hidden.add(at);
        button.setAttribute("aria-pressed", String(show));
        document.querySelectorAll(`.bar[data-series="${at}"]`).forEach((bar) => { bar.hidden = !show; bar.style.display = show ? "" : "none"; });
        charts.forEach((chart) => chart.lines.forEach((line, place) => {
          if (line.series === at) chart.plot.setSeries(place + 1, { show });
        }));
      });
      made.append(button);
    });
    return made;
  }

  function draw() {
    const names = data.runs.map((run) => run.name);
    document.title = `${[...new Set(names)].join(", ")} – corelane-bench`;
    const main = document.getElementById("report");
    const nav = el("ul", {});
    const section = (id, title, ...content) => {
      nav.append(el("li", {}, el("a", { href: `#${id}` }, title)));
      main.append(el("section", { id }, el("h2", {}, title), ...content));
    };
    main.append(el("h1", {}, [...new Set(names)].join(", ")), el("nav", { "aria-label": "Contents" }, nav), ...warnings(), ...data.runs.map(runCard), toolbar());
    section("given", "What each engine was given", fairnessTable());
    const open = data.rows.filter((row) => row.schedule);
    const beside = data.rows.filter((row) => row.device);
    section("results", "Results", speedTable(), ...(open.length ? [openTable(open)] : []), costTable(), ...(beside.length ? [deviceTable(beside)] : []));
    section("side", "Engines side by side", el("p", { class: "soft" }, "Operations a second. Bars are medians over repeats; whiskers reach from the least to the most."), rateBars());
    section("cost", "Amplification, processor and memory", costBars());
    if (data.rate_charts.length > 0) section("rate", "Latency × rate", ...data.rate_charts.map(rateChart));
    [...new Set(data.timelines.map((line) => line.phase).concat(data.curves.map((curve) => curve.phase)))].forEach((phase, at) => {
      const curves = data.curves.filter((curve) => curve.phase === phase).map(curveChart);
      section(`phase-${at}`, `Phase ${phase}`, el("div", { class: curves.length > 1 ? "two" : null }, ...curves), timeSection(phase));
    });
    charts.forEach((chart) => chart.draw());
    watch();
    document.documentElement.setAttribute("data-state", "drawn");
  }

  // Charts follow the width of their place and the colour scheme.
  function watch() {
    const sizes = new ResizeObserver((entries) => entries.forEach((entry) => {
      const of = charts.find((chart) => chart.place === entry.target);
      const width = Math.max(Math.floor(entry.contentRect.width), 200);
      if (of.plot && of.plot.width !== width) of.plot.setSize({ width, height: width < 500 ? 240 : 300 });
    }));
    charts.forEach((chart) => sizes.observe(chart.place));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.draw()));
  }

  draw();
})();
