// The page's state, controls and keys; draws the page.

/**
 * What is shown. `token` is the selected token, `hover` the one under the
 * pointer, `column` the column of a map that the arrow keys have reached, and
 * `neuron` a rank among the most active neurons.
 */
const state = {
  token: dearest(), hover: null, column: null, losses: "mean",
  variant: 0, layer: 0, head: 0, neuron: 0,
};

/** The first selection: the token with the largest difference, or loss. */
function dearest() {
  const values = data.difference?.mean ?? data.variants[0].loss_mean;
  return values.reduce(
    (best, x, place) => (x !== null && (best === 0 || x > values[best]) ? place : best), 0);
}

function element$(id) { return document.getElementById(id); }

/** Changes the state and redraws what depends on it. */
function set(change) {
  const changed = Object.keys(change).filter((key) => state[key] !== change[key]);
  if (!changed.length) return;
  Object.assign(state, change);
  if (changed.includes("token") && !("column" in change)) state.column = null;
  draw(changed);
}

function draw(changed) {
  const any = (...keys) => keys.some((key) => changed.includes(key));
  if (any("losses")) strips.forEach((each) => each.paint());
  if (any("variant")) views.attention.paint();
  if (any("variant", "layer", "head")) views.attention.redraw();
  if (any("layer")) views.influence.redraw();
  strips.forEach((each) => each.mark());
  if (changed.every((key) => key === "hover")) return;
  controls.forEach((each) => each.mark());
  Object.values(views).forEach((view) => view.mark());
  if (any("token")) strips.forEach((each) => each.show());
  tell();
}

/** Describes the selected token in one line. */
function tell() {
  const place = state.token;
  const part = data.parts[place] ? ` (part of ${data.parts[place]})` : "";
  const whose = state.losses === "mean"
    ? `mean of ${data.seeds.length} seeds${data.difference ? ", 95% interval" : ""}`
    : `seed ${data.seed}`;
  element$("selected").replaceChildren(
    `Token ${place} `, piece(data.ids[place]), part, ` · ${costs(place)}`,
    place && data.seeds.length > 1 ? ` (${whose})` : "",
    ...(place + 1 < tokens ? [" · next ", piece(data.ids[place + 1])] : []));
}

/** Selects a token and moves the focus with it. */
function choose(place, box) {
  set({token: place});
  strips.find((each) => each.box === box).focus();
}

/** A radio group of buttons that sets one key of the state. */
function choices(name, key, values) {
  const options = values.map(([value, label]) => {
    const button = element("button", {type: "button", role: "radio"}, label);
    button.addEventListener("click", () => set({[key]: value}));
    return button;
  });
  const node = element("div", {role: "radiogroup", "aria-label": name, "data-key": key},
                       ...options);
  node.addEventListener("keydown", (event) => {
    const here = values.findIndex(([value]) => value === state[key]);
    const to = {
      ArrowLeft: here - 1, ArrowUp: here - 1, ArrowRight: here + 1,
      ArrowDown: here + 1, Home: 0, End: values.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = (to + values.length) % values.length;
    set({[key]: values[next][0]});
    options[next].focus();
  });
  function mark() {
    options.forEach((button, index) => {
      const chosen = values[index][0] === state[key];
      button.setAttribute("aria-checked", chosen);
      button.tabIndex = chosen ? 0 : -1;
    });
  }
  return {node, options, mark};
}

function hint(text, event) {
  const box = element$("hint");
  box.textContent = text;
  box.hidden = false;
  const left = Math.min(event.clientX + 14, innerWidth - box.offsetWidth - 8);
  const over = event.clientY + 18 + box.offsetHeight > innerHeight;
  box.style.left = `${Math.max(left, 4)}px`;
  box.style.top = `${over ? event.clientY - box.offsetHeight - 10 : event.clientY + 18}px`;
}
function unhint() { element$("hint").hidden = true; }

const numbered = (count) => [...Array(count).keys()].map((each) => [each, `${each}`]);

const SETS = [
  ["Model", "variant", data.variants.map((variant, index) => [index, variant.name])],
  ["Layer", "layer", numbered(data.layers)],
  ["Head", "head", numbered(data.heads)],
  ["Losses", "losses", data.seeds.length > 1
    ? [["mean", `mean of ${data.seeds.length} seeds`], ["seed", `seed ${data.seed}`]]
    : [["mean", `seed ${data.seed}`]]],
];
const controls = SETS.filter(([, , values]) => values.length > 1)
  .map(([name, key, values]) => {
    const made = choices(name, key, values);
    made.node.prepend(element("span", {class: "name", "aria-hidden": "true"}, name));
    element$("controls").append(made.node);
    return made;
  });

const largest = () => Math.max(...data.variants.flatMap((_, index) =>
  losses(index).filter((x) => x !== null)));
const strips = data.variants.map((variant, index) =>
  strip(variant.name, "much", () => losses(index), () => [0, largest()], index));
if (data.difference) {
  const most = () => Math.max(...difference().map(Math.abs)) || 1;
  const [first, second] = data.variants;
  strips.push(strip(`${second.name} − ${first.name}`, "difference", difference,
                    () => [-most(), most()], null));
}
element$("strips").append(...strips.map((each) => each.node));

const views = {
  attention: attentionPanel(element$("attention")),
  lens: lensPanel(element$("lens")),
  neurons: neuronsPanel(element$("neurons")),
  influence: influencePanel(element$("influence")),
};

document.title = `${data.title} – jaxlook microscope`;
element$("title").textContent = data.title;
element$("about").textContent = data.about;
element$("about").title = data.about;
element$("given").querySelector("pre").textContent = data.text;
element$("help-open").addEventListener("click", () => element$("help").showModal());

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || element$("help").open) return;
  const step = event.shiftKey ? -1 : 1;
  const turned = (key, count) => ({[key]: (state[key] + step + count) % count});
  if (event.key === "?") element$("help").showModal();
  else if (event.key === "v") set(turned("variant", data.variants.length));
  else if (event.key.toLowerCase() === "l") set(turned("layer", data.layers));
  else if (event.key.toLowerCase() === "h") set(turned("head", data.heads));
  else return;
  event.preventDefault();
});

function drawAll() { draw(Object.keys(state)); }
darkly.addEventListener("change", drawAll);
addEventListener("beforeprint", () => { printing = true; drawAll(); });
addEventListener("afterprint", () => { printing = false; drawAll(); });
drawAll();
