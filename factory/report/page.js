// Choosing a layer, image and tile, and the value under the pointer. Without this the page shows one tile of each layer.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const chooser = document.getElementById("choose-layer");
  if (!chooser) return;
  document.documentElement.classList.add("js");
  const decoded = new Map();
  const kinds = { i1: Int8Array, u1: Uint8Array, i2: Int16Array, i4: Int32Array };
  const colours = (name) => data.colours[name].match(/.{6}/g).map((text) => parseInt(text, 16));
  const maps = { codes: colours("codes"), signed: colours("signed") };
  const out = document.createElement("output");

  // Arrays come as [type, base64 of little-endian bytes]; they are decoded when their layer is chosen.
  const array = ([type, text]) => new kinds[type](Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const layerOf = (name) => {
    if (!decoded.has(name)) {
      const x = data.layers[name];
      decoded.set(name, { ...x, activation: array(x.activation), weight: array(x.weight), accumulator: array(x.accumulator) });
    }
    return decoded.get(name);
  };

  // What the panels show: for each a function from (map, y, x) to a value, and to the labels of its address.
  const panelsOf = (x, at) => {
    const [height, width] = x.padded, nijs = height * width, [outY, outX] = x.out;
    const act = (nij, row) => x.activation[((at.image * x.its.length + at.it) * nijs + nij) * x.rows + row];
    const weight = (kij, col, row) =>
      x.weight[(((at.it * x.ots.length + at.ot) * x.kijs + kij) * x.cols + col) * x.rows + row];
    const psum = (nij, col) => { // of the codes, as the array adds them up
      let sum = 0;
      for (let row = 0; row < x.rows; row++) sum += act(nij, row) * weight(at.kij, col, row);
      return sum;
    };
    const line = (lanes, name, value, where) => at.view === 0
      ? { maps: lanes, height, width, value: (m, y, x) => value(y * width + x, m), where: (m, y, x) => `${where}, nij ${y * width + x}, ${name} ${m}`, what: `y down, x across, a map for each ${name}` }
      : { maps: 1, height: lanes, width: nijs, value: (m, y, x) => value(x, y), where: (m, y, x) => `${where}, nij ${x}, ${name} ${y}`, what: `${name} down, nij across` };
    const image = `image ${x.images[at.image]}`, it = `it ${x.its[at.it]}`, ot = `ot ${x.ots[at.ot]}`;
    return [
      { title: "activation", role: "activation", ...line(x.rows, "row", act, `${image}, ${it}`), ends: x.codes },
      { title: "weight", role: "weight", maps: x.kijs, height: x.cols, width: x.rows, what: "col down, row across, a square for each kij",
        value: (m, y, x) => weight(m, y, x), where: (m, y, x) => `${it}, ${ot}, kij ${m}, col ${y}, row ${x}`, ends: x.weights },
      { title: `psum at kij ${at.kij}`, role: "psum", ...line(x.cols, "col", psum, `${image}, ${it}, ${ot}, kij ${at.kij}`), ends: null },
      { title: "accumulator, before ReLU", role: "accumulator", maps: x.cols, height: outY, width: outX, what: "y down, x across, a map for each col",
        value: (m, y, xx) => x.accumulator[((at.image * x.ots.length + at.ot) * x.cols + m) * outY * outX + y * outX + xx],
        where: (m, y, xx) => `${image}, ${ot}, onij ${y * outX + xx}, col ${m}`, ends: null },
    ];
  };

  const draw = (canvas, panel) => {
    const each = panel.width + 1, across = panel.maps * each - 1;
    canvas.width = across;
    canvas.height = panel.height;
    const values = new Int32Array(across * panel.height), there = new Uint8Array(values.length);
    let most = 1;
    for (let m = 0; m < panel.maps; m++)
      for (let y = 0; y < panel.height; y++)
        for (let x = 0; x < panel.width; x++) {
          const place = y * across + m * each + x;
          values[place] = panel.value(m, y, x);
          there[place] = 1;
          most = Math.max(most, Math.abs(values[place]));
        }
    const [low, high] = panel.ends || [-most, most];
    const map = maps[low < 0 ? "signed" : "codes"];
    const pixels = canvas.getContext("2d").createImageData(across, panel.height);
    values.forEach((value, place) => {
      if (!there[place]) return;
      const share = Math.min(1, Math.max(0, (value - low) / (high - low)));
      const colour = map[Math.min(255, Math.floor(share * 256))]; // as matplotlib does
      pixels.data.set([colour >> 16, (colour >> 8) & 255, colour & 255, 255], 4 * place);
    });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return [low, high];
  };

  const show = (name) => {
    const x = layerOf(name), section = document.getElementById(`layer-${name}`), box = section.querySelector(".explore");
    box.replaceChildren();
    const at = { image: 0, it: 0, ot: 0, kij: x.kijs >> 1, view: x.folded ? 0 : 1 };
    const row = document.createElement("div");
    row.className = "chooser";
    const drawn = document.createElement("div");
    const redraw = () => {
      drawn.replaceChildren(...panelsOf(x, at).map((panel) => {
        const figure = document.createElement("div"), scroll = document.createElement("div"), canvas = document.createElement("canvas");
        figure.className = "panel";
        canvas.dataset.role = panel.role;
        const [low, high] = draw(canvas, panel);
        // A line of few lanes is as high as 14 pixels a lane; maps keep their pixels square.
        canvas.style.aspectRatio = panel.maps === 1 ? "auto" : `${canvas.width} / ${canvas.height}`;
        if (panel.maps === 1) Object.assign(canvas.style, { height: `${Math.min(14 * panel.height, 320)}px`, minWidth: `${Math.min(6 * panel.width, 16000)}px` });
        const title = document.createElement("b"), text = document.createElement("small");
        title.textContent = panel.title;
        text.textContent = `${panel.what}; colours ${low} to ${high}`;
        const tell = (event) => {
          const box = canvas.getBoundingClientRect();
          const across = Math.floor((event.clientX - box.left) / box.width * canvas.width);
          const y = Math.floor((event.clientY - box.top) / box.height * canvas.height);
          const m = Math.floor(across / (panel.width + 1)), px = across % (panel.width + 1);
          const inside = m >= 0 && m < panel.maps && px >= 0 && px < panel.width && y >= 0 && y < panel.height;
          if (inside) out.textContent = `${panel.role} ${panel.value(m, y, px)} at ${name}, ${panel.where(m, y, px)}`;
        };
        canvas.addEventListener("pointermove", tell);
        canvas.addEventListener("pointerdown", tell);
        scroll.append(canvas);
        const head = document.createElement("p");
        head.append(title, text);
        figure.append(head, scroll);
        return figure;
      }));
    };
    for (const [key, labels] of [["image", x.images], ["it", x.its], ["ot", x.ots], ["kij", [...Array(x.kijs).keys()]], ["view", ["maps", "lane × nij"]]]) {
      const label = document.createElement("label"), select = document.createElement("select");
      select.dataset.axis = key;
      labels.forEach((text, place) => select.add(new Option(text, place, false, place === at[key])));
      select.addEventListener("change", () => { at[key] = Number(select.value); redraw(); });
      label.append(key, select);
      row.append(label);
    }
    out.textContent = "point at a cell for its value and address";
    redraw();
    box.append(row, drawn, out);
  };

  const choose = (name) => {
    document.querySelectorAll(".layer").forEach((section) => section.classList.toggle("chosen", section.id === `layer-${name}`));
    chooser.value = name;
    if (data.layers[name]) show(name);
  };
  chooser.addEventListener("change", () => choose(chooser.value));
  const asked = () => decodeURIComponent(location.hash).replace("#layer-", "");
  const known = (name) => [...chooser.options].some((option) => option.value === name);
  window.addEventListener("hashchange", () => known(asked()) && choose(asked()));
  choose(known(asked()) ? asked() : chooser.options[0].value);
})();
