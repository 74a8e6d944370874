// The panels with numbers: next tokens by depth, and neurons.

/** A table of the most probable next tokens by depth, at the selected token. */
function lensPanel(root) {
  const head = element("tr", {}, element("th", {scope: "col"}, "after"),
    ...[1, 2, 3, 4].map((rank) => element("th", {scope: "col"}, `${rank}`)),
    element("th", {scope: "col"}, "came"));
  const body = element("tbody");
  const came = element("p", {class: "note"});
  root.append(
    element("table", {class: "lens"}, element("thead", {}, head), body), came);

  function guess(id, share, isNext) {
    const cell = element("span", {
      class: isNext ? "guess came" : "guess", "data-id": id, "data-value": share,
      title: `“${plainly(spelled(id))}”: ${fixed(share, 4)}${isNext ? ", and it came" : ""}`,
    }, piece(id), element("small", {}, fixed(share)));
    const percent = (100 * share).toFixed(1);
    cell.style.background =
      `linear-gradient(to top, var(--bar) ${percent}%, transparent ${percent}%)`;
    return element("td", {}, cell);
  }

  return {
    mark() {
      const lens = data.variants[state.variant].lens;
      const place = state.token;
      const next = data.ids[place + 1];
      body.replaceChildren(...lens.top.map((ids, depth) => {
        const row = element("tr", {},
          element("th", {scope: "row"}, depth === 0 ? "start" : `${depth - 1}`),
          ...ids[place].slice(0, 4).map((id, rank) =>
            guess(id, lens.share[depth][place][rank], id === next)),
          element("td", {}, element("small", {},
            next === undefined ? "–" : `${fixed(lens.next_share[depth][place], 3)}`),
            element("br"), element("small", {class: "number"},
              next === undefined ? "" : `#${lens.next_rank[depth][place]}`)));
        row.classList.toggle("chosen", depth === state.layer + 1);
        return row;
      }));
      came.replaceChildren(...(next === undefined
        ? ["Nothing follows the last token."]
        : ["After ", piece(data.ids[place]), " came ", piece(next),
           ", outlined and ticked where it is among the most probable tokens."
           + " Numbers are probabilities; # is its rank."]));
    },
  };
}

/** The layer's most active neurons at the selected token; details of one. */
function neuronsPanel(root) {
  if (!data.hidden) {
    root.append("These models have no feed-forward layers.");
    return {mark() {}};
  }
  const count = data.variants[0].neurons[0].top[0].length;
  const buttons = choices("Neurons that are most active", "neuron",
    [...Array(count).keys()].map((rank) => [rank, ""]));
  const what = element("h3");
  const triggers = element("ol");
  const jumps = data.ids.slice(0, count).map(() => {
    const button = element("button", {type: "button"});
    button.addEventListener("click", () => set({token: +button.dataset.place}));
    const number = element("span", {class: "number"});
    triggers.append(element("li", {}, button, number));
    return {button, number};
  });
  const writes = element("ol", {class: "writes"});
  const about = element("p", {class: "note"}, "Activations are after the"
    + " nonlinearity. Logits are those of the value at activation 1, without"
    + " LayerNorm's division.");
  root.append(element("div", {class: "neurons"},
    buttons.node,
    element("div", {}, what, triggers, element("h3", {}, "Its value writes"), writes)),
    about);

  return {
    mark() {
      buttons.mark();
      const layer = data.variants[state.variant].neurons[state.layer];
      const [top, activation] = [layer.top[state.token], layer.activation[state.token]];
      buttons.options.forEach((button, rank) => {
        button.dataset.neuron = top[rank];
        button.replaceChildren(element("span", {}, `${top[rank]}`),
          element("span", {}, signed(activation[rank])));
      });
      const neuron = top[state.neuron];
      const found = layer.found[neuron];
      what.textContent = `${neuron} fires at`;
      jumps.forEach(({button, number}, rank) => {
        const place = found.places[rank];
        button.dataset.place = place;
        const before = data.ids.slice(Math.max(0, place - 7), place)
          .flatMap((id) => written(spelled(id)));
        button.replaceChildren(...before,
          element("b", {}, ...written(at(place))));
        button.setAttribute("aria-label",
          `go to ${named(place)}`);
        number.textContent = signed(found.activations[rank]);
      });
      writes.replaceChildren(...found.writes.map((id, rank) =>
        element("li", {"data-id": id}, piece(id),
          element("span", {class: "number"}, signed(found.logits[rank])))));
    },
  };
}
