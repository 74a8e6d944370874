// Tokens: how they are written, and the strips that show all of them.

const SIGNS = {" ": "·", "\n": "↵", "\t": "⇥"};
const BY_BYTES = /^(<[0-9A-F]{2}>)+$/;

const spelled = (id) => data.spelling[id];
const at = (place) => spelled(data.ids[place]);
const tokens = data.ids.length;

/** A text as nodes: white space and hidden characters get visible signs. */
function written(text) {
  if (text === "") return [element("span", {class: "sign"}, "∅")];
  if (BY_BYTES.test(text)) return [element("span", {class: "hex"}, text)];
  return [...text].map((character) => {
    if (character in SIGNS) {
      return element("span", {class: "sign"}, SIGNS[character]);
    }
    if (/[\p{C}\p{Z}]/u.test(character)) {
      const code = character.codePointAt(0).toString(16).toUpperCase();
      return element("span", {class: "sign hex"}, `⟨${code}⟩`);
    }
    return character;
  });
}

/** The same as one string, for labels and hints. */
const plainly = (text) =>
  written(text).map((node) => node.textContent ?? node).join("");

/** A token with its place, in quotes. */
const named = (place) => `${place} “${plainly(at(place))}”`;

const piece = (id) => element("span", {class: "piece"}, ...written(spelled(id)));

const fixed = (x, digits = 2) =>
  x === null ? "–" : x.toFixed(digits).replace("-", "−");
const signed = (x, digits = 2) => (x > 0 ? "+" : "") + fixed(x, digits);

/** Losses of a variant by token: mean or one seed, as the state says. */
const losses = (variant) =>
  data.variants[variant][state.losses === "mean" ? "loss_mean" : "loss"];
const difference = () =>
  state.losses === "mean"
    ? data.difference.mean
    : losses(1).map((x, place) => (x === null ? null : x - losses(0)[place]));

/** " [low, high]" of a token's difference, where there is an interval. */
function interval(place) {
  const {low, high} = data.difference;
  if (state.losses !== "mean" || low === null) return "";
  return ` [${signed(low[place])}, ${signed(high[place])}]`;
}

/** The loss on a token, in words. */
function costs(place) {
  if (place === 0) return "the first token is not predicted";
  const each = data.variants.map(
    (variant, index) => `${variant.name} ${fixed(losses(index)[place])}`);
  const paid = data.difference
    ? `; difference ${signed(difference()[place])}${interval(place)}` : "";
  return `${each.join(", ")} nats${paid}`;
}

function meanOf(values) {
  const known = values.filter((x) => x !== null);
  return known.reduce((sum, x) => sum + x, 0) / known.length;
}

/**
 * One strip of all tokens, coloured by `values()`.
 *
 * It is a listbox: one token is in the tab order, arrows move the selection.
 * `reader` is the index of the variant whose attention the bars show, or null.
 */
function strip(name, scale, values, ends, reader) {
  const options = data.ids.map((id, place) =>
    element("span", {role: "option", class: "token", "data-place": place},
            ...written(spelled(id))));
  const box = element("div", {
    role: "listbox", class: "tokens", "aria-label": `Tokens: ${name}`,
    "aria-orientation": "horizontal",
  });
  for (const option of options) {
    box.append(option);
    if (at(option.dataset.place).endsWith("\n")) box.append(element("br"));
  }
  const shown = legend(scale, "nats");
  const mean = element("span");
  const title = element("h2", {}, name, mean);

  const placeOf = (event) => event.target.closest(".token")?.dataset.place;
  box.addEventListener("click", (event) => {
    if (placeOf(event) !== undefined) choose(+placeOf(event), box);
  });
  box.addEventListener("mouseover", (event) => {
    const place = placeOf(event);
    set({hover: place === undefined ? null : +place});
    if (place !== undefined) {
      const part = data.parts[place] ? ` (part of ${data.parts[place]})` : "";
      hint(`${named(+place)}${part}\n${costs(+place)}`, event);
    }
  });
  box.addEventListener("mouseleave", () => { set({hover: null}); unhint(); });
  box.addEventListener("keydown", (event) => {
    const to = nextToken(event.key, options);
    if (to === undefined) return;
    event.preventDefault();
    choose(to, box);
  });

  /** Recolours the strip; called only if its numbers have changed. */
  function paint() {
    const [from, to] = ends();
    values().forEach((x, place) => {
      const option = options[place];
      const rgb = x === null ? null : colour(scale, (x - from) / (to - from));
      option.style.backgroundColor = rgb ? css(rgb) : "";
      option.style.color = rgb ? inkOn(rgb) : "";
      option.dataset.value = x === null ? "" : x;
      option.setAttribute(
        "aria-label",
        `${named(place)}, ${x === null ? "no loss" : `${fixed(x)} nats`}`);
    });
    mean.textContent = `mean ${scale === "difference" ? total() : fixed(meanOf(values()))}`;
    shown.draw(fixed(from, 1), fixed(to, 1));
  }

  /** Marks the selected token and what the query reads. */
  function mark() {
    const query = state.hover ?? state.token;
    options.forEach((option, place) => {
      const selected = place === state.token;
      option.setAttribute("aria-selected", selected);
      option.tabIndex = selected ? 0 : -1;
      const weight = reader === null || place > query
        ? 0 : attention(reader, state.layer, state.head, query, place);
      option.style.setProperty("--read", Math.sqrt(weight).toFixed(3));
    });
  }

  return {
    node: element("div", {class: "strip"}, title, box, shown.node),
    paint, mark, box,
    focus: () => options[state.token].focus({preventScroll: true}),
    show: () => {
      const [option, view] = [options[state.token], box];
      const [top, bottom] = [option.offsetTop, option.offsetTop + option.offsetHeight];
      if (top < view.scrollTop) view.scrollTop = top - 4;
      if (bottom > view.scrollTop + view.clientHeight) {
        view.scrollTop = bottom - view.clientHeight + 4;
      }
    },
  };
}

function total() {
  const {mean, low, high} = data.difference.total;
  if (state.losses !== "mean") return signed(meanOf(difference()), 3);
  const within = low === null ? "" : ` [${signed(low, 3)}, ${signed(high, 3)}]`;
  return `${signed(mean, 3)}${within}`;
}

/** The token that a key moves to from the selected token. */
function nextToken(key, options) {
  const here = state.token;
  const bounded = (place) => Math.min(Math.max(place, 0), tokens - 1);
  if (key === "ArrowLeft") return bounded(here - 1);
  if (key === "ArrowRight") return bounded(here + 1);
  if (key === "Home") return 0;
  if (key === "End") return tokens - 1;
  if (key !== "ArrowUp" && key !== "ArrowDown") return undefined;
  // The nearest token of the line above or below.
  const step = key === "ArrowUp" ? -1 : 1;
  const line = (place) => options[place].offsetTop;
  let place = here;
  while (options[place] && line(place) === line(here)) place += step;
  if (!options[place]) return bounded(place);
  const [goal, x] = [line(place), options[here].offsetLeft];
  let best = place;
  for (; options[place] && line(place) === goal; place += step) {
    const nearer = Math.abs(options[place].offsetLeft - x)
      < Math.abs(options[best].offsetLeft - x);
    if (nearer) best = place;
  }
  return best;
}
