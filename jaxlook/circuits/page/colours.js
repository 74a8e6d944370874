// Colours: ColorBrewer's YlGnBu on light pages and viridis on dark ones, so
// that large values stand out from the page; blue to orange for differences.
// Colour-blind readers can tell the colours of all three apart.

const SCALES = {
  light: {
    much: ["#ffffd9", "#edf8b1", "#c7e9b4", "#7fcdbb", "#41b6c4", "#1d91c0",
           "#225ea8", "#253494", "#081d58"],
    difference: ["#08519c", "#3182bd", "#9ecae1", "#f7f7f7", "#fdbe85",
                 "#e6701a", "#a63603"],
  },
  dark: {
    much: ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89",
           "#35b779", "#6ece58", "#b5de2b", "#fde725"],
    difference: ["#b3d9ff", "#4292c6", "#2b5a85", "#2a2d33", "#85501f",
                 "#d9762b", "#ffd0a0"],
  },
};

const darkly = window.matchMedia("(prefers-color-scheme: dark)");
let printing = false;  // Paper uses the light theme.

const theme = () => (darkly.matches && !printing ? "dark" : "light");

const channels = (hex) =>
  [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

const STEPS = 255;

/** `STEPS + 1` colours along a list of stops. */
function ramp(stops) {
  return [...Array(STEPS + 1).keys()].map((step) => {
    const along = (step / STEPS) * (stops.length - 1);
    const first = Math.min(Math.floor(along), stops.length - 2);
    const [from, to] = [channels(stops[first]), channels(stops[first + 1])];
    return from.map((x, at) => Math.round(x + (along - first) * (to[at] - x)));
  });
}

const RAMPS = Object.fromEntries(Object.entries(SCALES).map(([name, scales]) =>
  [name, Object.fromEntries(Object.entries(scales).map(
    ([scale, stops]) => [scale, ramp(stops)]))]));

/** The colour [r, g, b] at a place in 0..1 on a scale. */
const colour = (scale, place) =>
  RAMPS[theme()][scale][Math.round(STEPS * Math.min(Math.max(place, 0), 1))];

const css = (rgb) => `rgb(${rgb.join(" ")})`;

/** Black or white, whichever is easier to read on a colour (WCAG 2). */
function inkOn(rgb) {
  const linear = rgb.map((x) => {
    const part = x / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  const light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return light > 0.179 ? "#000000" : "#ffffff";
}

/** A strip of a scale between the numbers at its ends; redrawn by `draw`. */
function legend(scale, title) {
  const canvas = element("canvas", {width: 120, height: 1, "aria-hidden": true});
  const [low, high] = [element("span"), element("span")];
  return {
    node: element("div", {class: "legend"}, element("span", {}, title), low,
                  canvas, high),
    draw(from, to) {
      [low.textContent, high.textContent] = [from, to];
      const pen = canvas.getContext("2d");
      for (let x = 0; x < 120; x++) {
        pen.fillStyle = css(colour(scale, x / 119));
        pen.fillRect(x, 0, 1, 1);
      }
    },
  };
}

/** An element with attributes and children; texts never become markup. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
