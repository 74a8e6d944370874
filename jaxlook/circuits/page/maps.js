// Heat maps of lower triangles: attention patterns and influence.

/** The index of (row, column) in a lower triangle stored row by row. */
const below = (row, column) => (row * (row + 1)) / 2 + column;

const attention = (variant, layer, head, query, key) =>
  data.variants[variant].pattern[layer][head][below(query, key)] / 1000;

const influence = (variant, layer, row, column) =>
  data.variants[variant].influence[layer][below(row, column)];

/** Draws a lower triangle, one pixel per cell; the rest is transparent. */
function drawTriangle(canvas, value, place) {
  const image = new ImageData(tokens, tokens);
  const {data: bytes} = image;
  for (let row = 0; row < tokens; row++) {
    for (let column = 0; column <= row; column++) {
      const start = 4 * (row * tokens + column);
      const rgb = colour("much", place(value(row, column)));
      for (let at = 0; at < 3; at++) bytes[start + at] = rgb[at];
      bytes[start + 3] = 255;
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const square = (attributes) =>
  element("canvas", {width: tokens, height: tokens, ...attributes});

/**
 * A map that the pointer and the arrow keys can explore.
 *
 * Rows are tokens and follow the selection; `state.column` is the column that
 * the keys have reached. `says(row, column)` is the text of the readout.
 */
function heatMap(name, says) {
  const canvas = square({});
  const [row, cell] = [element("div", {class: "row"}), element("div", {class: "cell"})];
  const node = element("div", {
    class: "map", role: "application", tabindex: 0,
    "aria-roledescription": "heat map", "aria-label": name,
  }, canvas, row, cell);
  const readout = element("p", {class: "readout", "aria-live": "off"});

  const size = 100 / tokens;
  function mark() {
    const column = Math.min(state.column ?? state.token, state.token);
    row.style.cssText =
      `top:${state.token * size}%;height:${size}%;width:${(state.token + 1) * size}%`;
    cell.style.cssText =
      `top:${state.token * size}%;height:${size}%;left:${column * size}%;width:${size}%`;
    readout.textContent = says(state.token, column);
  }
  function under(event) {
    const box = canvas.getBoundingClientRect();
    const along = (x, length) =>
      Math.min(Math.max(Math.floor((x / length) * tokens), 0), tokens - 1);
    return [along(event.clientY - box.top, box.height),
            along(event.clientX - box.left, box.width)];
  }
  // Screen readers read it out only while the map has the focus.
  node.addEventListener("focus", () => { readout.ariaLive = "polite"; });
  node.addEventListener("blur", () => { readout.ariaLive = "off"; });
  node.addEventListener("mousemove", (event) => {
    const [line, column] = under(event);
    set({hover: line});
    if (column <= line) hint(says(line, column), event); else unhint();
  });
  node.addEventListener("mouseleave", () => { set({hover: null}); unhint(); });
  node.addEventListener("click", (event) => {
    const [line, column] = under(event);
    set({token: line, column: Math.min(column, line)});
  });
  node.addEventListener("keydown", (event) => {
    const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1],
                  ArrowRight: [0, 1]}[event.key];
    if (!step) return;
    event.preventDefault();
    const token = Math.min(Math.max(state.token + step[0], 0), tokens - 1);
    const column = (state.column ?? state.token) + step[1];
    set({token, column: Math.min(Math.max(column, 0), token)});
  });
  return {node, canvas, readout, mark};
}

/** The attention panel: one large head, all heads small, the top keys. */
function attentionPanel(root) {
  const map = heatMap("Attention pattern: rows attend to columns",
    (query, key) => {
      const weight = attention(state.variant, state.layer, state.head, query, key);
      return `${named(query)} reads ${named(key)}: ${fixed(weight, 3)}`;
    });
  const scale = legend("much", "weight, square root");
  const thumbs = [];
  const grid = element("div", {class: "heads", "aria-hidden": "true"});
  grid.style.gridTemplateColumns = `repeat(${data.heads}, auto)`;
  const wide = Math.max(data.heads, data.layers / 2);
  grid.style.setProperty("--thumb", `${Math.max(9, Math.min(22, 96 / wide))}px`);
  for (let layer = 0; layer < data.layers; layer++) {
    for (let head = 0; head < data.heads; head++) {
      const canvas = square({title: `layer ${layer}, head ${head}`});
      canvas.addEventListener("click", () => set({layer, head}));
      thumbs.push({canvas, layer, head});
      grid.append(canvas);
    }
  }
  const reads = element("ol", {class: "reads"});
  root.append(
    element("div", {class: "attention"},
      element("div", {}, map.node,
        element("div", {class: "axes"}, element("span", {}, "↓ query"),
                element("span", {}, "key →"))),
      element("div", {}, element("p", {class: "note"}, "head →, layer ↓"), grid)),
    map.readout, element("h3", {}, "Reads most"), reads, scale.node);

  return {
    map,
    paint() {
      for (const {canvas, layer, head} of thumbs) {
        drawTriangle(canvas, (q, k) => attention(state.variant, layer, head, q, k),
                     Math.sqrt);
      }
      scale.draw("0", "1");
    },
    redraw() {
      drawTriangle(map.canvas,
        (q, k) => attention(state.variant, state.layer, state.head, q, k), Math.sqrt);
      for (const {canvas, layer, head} of thumbs) {
        canvas.classList.toggle("chosen", layer === state.layer && head === state.head);
      }
    },
    mark() {
      map.mark();
      const query = state.token;
      const keys = [...Array(query + 1).keys()]
        .map((key) => [attention(state.variant, state.layer, state.head, query, key), key])
        .sort((a, b) => b[0] - a[0]).slice(0, 5);
      reads.replaceChildren(...keys.map(([weight, key]) =>
        element("li", {"data-place": key, "data-value": weight},
          `${key} `, piece(data.ids[key]),
          element("span", {class: "number"}, ` ${fixed(weight, 3)}`))));
    },
  };
}

const DECADES = 3;  // Decades of influence shown, below the largest.

/** The influence panel: one map per variant, on a common scale. */
function influencePanel(root) {
  const maps = data.variants.map((variant, index) =>
    heatMap(`Influence under ${variant.name}: losses at rows, streams at columns`,
      (row, column) => {
        const lost = row + 1 < tokens
          ? `loss on ${named(row + 1)}` : "no loss after the last";
        return `${lost} from the stream at ${named(column)}:`
          + ` ${influence(index, state.layer, row, column).toPrecision(3)}`;
      }));
  const scale = legend("much", "nats per unit, log");
  root.append(
    element("div", {class: "pair"}, ...maps.map((map, index) =>
      element("div", {}, element("h3", {}, data.variants[index].name), map.node,
        element("div", {class: "axes"}, element("span", {}, "↓ loss after"),
                element("span", {}, "stream →")),
        map.readout))),
    scale.node,
    element("p", {class: "note"},
      "Norm of dL/dx with the full gradient. Row: where the next token is"
      + " predicted. Column: the position of the layer's input x."));

  return {
    maps,
    redraw() {
      const largest = Math.max(...data.variants.flatMap(
        (variant) => variant.influence[state.layer].reduce((a, b) => Math.max(a, b), 0)));
      maps.forEach((map, index) => drawTriangle(map.canvas,
        (row, column) => influence(index, state.layer, row, column),
        (x) => (x > 0 ? 1 + Math.log10(x / largest) / DECADES : 0)));
      scale.draw((largest / 10 ** DECADES).toPrecision(2), largest.toPrecision(2));
    },
    mark() { maps.forEach((map) => map.mark()); },
  };
}
