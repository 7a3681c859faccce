// Shows the hits of events, wire against time, on canvases that are zoomed and moved. Data: protosonic.reporting.viewer.
(function () {
  "use strict";
  const KINDS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array };
  const MARGIN = { left: 62, right: 14, top: 10, bottom: 40 };
  const NONE = 255;

  const column = (stored) => {
    const text = atob(stored.data);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return new KINDS[stored.kind](bytes.buffer);
  };

  const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches && !matchMedia("print").matches;

  // Between the ends of viridis, whose middle is added so that equal steps look equal.
  const VIRIDIS = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"].map(rgb);
  const viridis = (share) => {
    const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
    const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
    return VIRIDIS[low].map((value, i) => Math.round(value + (VIRIDIS[low + 1][i] - value) * (at - low)));
  };

  const steps = (low, high, most) => {
    const raw = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((n) => n * power >= raw) * power;
    const found = [];
    for (let n = Math.ceil(low / step); n * step <= high; n++) found.push(n * step);
    return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  };

  class Plane {
    constructor(viewer, stored) {
      this.viewer = viewer;
      this.stored = stored;
      this.data = {};
      for (const [name, value] of Object.entries(stored.columns)) this.data[name] = column(value);
      if (stored.charge) {
        this.charge = new Uint8Array(stored.charge.rows * stored.charge.bins);
        this.data.charge_at.forEach((at, i) => { this.charge[at] = this.data.charge_shade[i]; });
      }
      this.figure = document.createElement("figure");
      this.canvas = document.createElement("canvas");
      this.canvas.tabIndex = 0;
      this.canvas.setAttribute("role", "img");
      this.caption = document.createElement("figcaption");
      this.figure.append(this.canvas, this.caption);
      this.whole = this.extent();
      this.reset();
      this.listen();
    }

    extent() {
      const { wire, peak_time: time } = this.data;
      if (this.stored.charge) {
        const { rows, bins, ticks_per_bin: ticks } = this.stored.charge;
        return [-0.5, rows - 0.5, 0, bins * ticks];
      }
      let [low, high, early, late] = [Infinity, -Infinity, Infinity, -Infinity];
      for (let i = 0; i < wire.length; i++) {
        low = Math.min(low, wire[i]); high = Math.max(high, wire[i]);
        early = Math.min(early, time[i]); late = Math.max(late, time[i]);
      }
      const across = Math.max((high - low) * 0.02, 1), along = Math.max((late - early) * 0.02, 1);
      return [low - across, high + across, early - along, late + along];
    }

    reset() { this.view = [...this.whole]; this.later(); }

    later() {
      if (this.asked) return;
      this.asked = true;
      requestAnimationFrame(() => { this.asked = false; this.draw(); });
    }

    // Position on the canvas of a wire or a time, in pixels of the style sheet.
    x(wire) { return MARGIN.left + (wire - this.view[0]) / (this.view[1] - this.view[0]) * this.inner[0]; }
    y(time) { return MARGIN.top + (1 - (time - this.view[2]) / (this.view[3] - this.view[2])) * this.inner[1]; }
    wireAt(x) { return this.view[0] + (x - MARGIN.left) / this.inner[0] * (this.view[1] - this.view[0]); }
    timeAt(y) { return this.view[2] + (1 - (y - MARGIN.top) / this.inner[1]) * (this.view[3] - this.view[2]); }

    measure() {
      const width = Math.max(this.figure.clientWidth, 240);
      const height = Math.round(Math.min(Math.max(width * 0.36, 230), 420));
      const ratio = window.devicePixelRatio || 1;
      if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
        this.canvas.width = Math.round(width * ratio);
        this.canvas.height = Math.round(height * ratio);
        this.canvas.style.height = `${height}px`;
      }
      this.ratio = ratio;
      this.inner = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
    }

    draw() {
      if (!this.figure.isConnected) return;
      this.measure();
      const context = this.canvas.getContext("2d");
      const [width, height] = this.inner.map((side) => Math.max(Math.round(side * this.ratio), 1));
      const image = context.createImageData(width, height);
      const pixels = new Uint32Array(image.data.buffer);
      const paper = rgb(isDark() ? "#0d0f11" : "#ffffff");
      pixels.fill(this.packed(paper));
      if (this.stored.charge) this.drawCharge(pixels, width, height);
      this.drawHits(pixels, width, height);
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      context.putImageData(image, Math.round(MARGIN.left * this.ratio), Math.round(MARGIN.top * this.ratio));
      context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      this.drawAxes(context);
      this.say();
    }

    packed([red, green, blue]) { return (255 << 24 | blue << 16 | green << 8 | red) >>> 0; }

    drawCharge(pixels, width, height) {
      const { rows, bins, ticks_per_bin: ticks } = this.stored.charge;
      const charge = this.charge, dark = isDark();
      const shades = Uint32Array.from({ length: 256 }, (_, value) => {
        const grey = dark ? 13 + value * 0.8 : 255 - value;
        return this.packed([grey, grey, grey].map(Math.round));
      });
      const [w0, w1, t0, t1] = this.view;
      const bin = Int32Array.from({ length: height }, (_, y) => Math.floor((t0 + (1 - (y + 0.5) / height) * (t1 - t0)) / ticks));
      for (let x = 0; x < width; x++) {
        const first = Math.round(w0 + x / width * (w1 - w0)), last = Math.max(first, Math.round(w0 + (x + 1) / width * (w1 - w0)) - 1);
        for (let y = 0; y < height; y++) {
          if (bin[y] < 0 || bin[y] >= bins) continue;
          let value = 0;
          for (let row = Math.max(first, 0); row <= Math.min(last, rows - 1); row++) value = Math.max(value, charge[row * bins + bin[y]]);
          if (value) pixels[y * width + x] = shades[value];
        }
      }
    }

    drawHits(pixels, width, height) {
      const { wire, peak_time: time } = this.data;
      const [w0, w1, t0, t1] = this.view;
      const { colours, hidden } = this.viewer.colouring(this);
      const index = this.index;
      const many = wire.length / (((this.whole[1] - this.whole[0]) * (this.whole[3] - this.whole[2])) / ((w1 - w0) * (t1 - t0)));
      const size = Math.round(this.ratio * (many < 400 ? 5 : many < 3000 ? 3 : 2));
      const half = size >> 1, perWire = width / (w1 - w0), perTick = height / (t1 - t0);
      const order = this.order;
      for (let n = 0; n < wire.length; n++) {
        const i = order ? order[n] : n;
        if (wire[i] < w0 || wire[i] > w1 || time[i] < t0 || time[i] > t1 || hidden[index[i]]) continue;
        const x0 = Math.round((wire[i] - w0) * perWire) - half, y0 = Math.round(height - (time[i] - t0) * perTick) - half;
        const colour = colours[index[i]];
        for (let y = Math.max(y0, 0); y < Math.min(y0 + size, height); y++) {
          const row = y * width;
          pixels.fill(colour, row + Math.max(x0, 0), row + Math.max(Math.min(x0 + size, width), 0));
        }
      }
    }

    drawAxes(context) {
      const { pitch_mm: pitch, tick_us: tick } = this.stored;
      const physical = this.viewer.physical;
      const scale = [physical ? pitch / 10 : 1, physical ? tick : 1];
      const ink = isDark() ? "#c9ced6" : "#33373d";
      context.fillStyle = context.strokeStyle = ink;
      context.font = "12px system-ui, sans-serif";
      context.lineWidth = 1;
      const [width, height] = this.inner;
      context.strokeRect(MARGIN.left - 0.5, MARGIN.top - 0.5, width + 1, height + 1);
      context.textAlign = "center";
      context.textBaseline = "top";
      const across = steps(this.view[0] * scale[0], this.view[1] * scale[0], Math.max(width / 80, 2));
      for (const value of across.found) {
        const x = this.x(value / scale[0]);
        context.beginPath(); context.moveTo(x, MARGIN.top + height); context.lineTo(x, MARGIN.top + height + 4); context.stroke();
        context.fillText(value.toFixed(across.digits), x, MARGIN.top + height + 6);
      }
      context.fillText(physical ? `${this.stored.row_name} × pitch [cm]` : this.stored.row_name, MARGIN.left + width / 2, MARGIN.top + height + 22);
      context.textAlign = "right";
      context.textBaseline = "middle";
      const along = steps(this.view[2] * scale[1], this.view[3] * scale[1], Math.max(height / 50, 2));
      for (const value of along.found) {
        const y = this.y(value / scale[1]);
        context.beginPath(); context.moveTo(MARGIN.left - 4, y); context.lineTo(MARGIN.left, y); context.stroke();
        context.fillText(value.toFixed(along.digits), MARGIN.left - 7, y);
      }
      context.save();
      context.translate(12, MARGIN.top + height / 2);
      context.rotate(-Math.PI / 2);
      context.textAlign = "center";
      context.fillText(physical ? "time [µs]" : "time [ticks]", 0, 0);
      context.restore();
    }

    say() {
      const [w0, w1, t0, t1] = this.view.map((value) => Math.round(value));
      const { wire, peak_time: time } = this.data;
      let shown = 0;
      for (let i = 0; i < wire.length; i++) shown += wire[i] >= w0 && wire[i] <= w1 && time[i] >= t0 && time[i] <= t1;
      this.caption.textContent = this.stored.title + (shown < wire.length ? `, ${shown.toLocaleString("en")} in view` : "");
      this.canvas.setAttribute("aria-label", `${this.caption.textContent}; ${this.stored.row_name} ${w0} to ${w1}, ticks ${t0} to ${t1}. Plus and minus zoom, arrows move, 0 shows all.`);
    }

    zoom(factor, x, y) {
      const wire = this.wireAt(x), time = this.timeAt(y);
      const [w0, w1, t0, t1] = this.view;
      const least = [4, 20];
      const [across, along] = [Math.max((w1 - w0) * factor, least[0]) / (w1 - w0), Math.max((t1 - t0) * factor, least[1]) / (t1 - t0)];
      this.view = [wire - (wire - w0) * across, wire + (w1 - wire) * across, time - (time - t0) * along, time + (t1 - time) * along];
      if (this.view[1] - this.view[0] >= this.whole[1] - this.whole[0]) this.view = [...this.whole];
      this.later();
    }

    move(x, y) {
      const across = x / this.inner[0] * (this.view[1] - this.view[0]), along = y / this.inner[1] * (this.view[3] - this.view[2]);
      this.view = [this.view[0] - across, this.view[1] - across, this.view[2] + along, this.view[3] + along];
      this.later();
    }

    listen() {
      const canvas = this.canvas, pointers = new Map();
      const place = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
      const middle = () => { const all = [...pointers.values()]; return [0, 1].map((k) => all.reduce((sum, at) => sum + at[k], 0) / all.length); };
      const apart = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
      // Only with Ctrl, or once it has the focus: else the page could not be scrolled past it.
      canvas.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && document.activeElement !== canvas) return;
        event.preventDefault();
        this.zoom(Math.exp(Math.sign(event.deltaY) * 0.25), ...place(event));
      }, { passive: false });
      canvas.addEventListener("pointerdown", (event) => { pointers.set(event.pointerId, place(event)); canvas.setPointerCapture(event.pointerId); canvas.focus({ preventScroll: true }); });
      canvas.addEventListener("pointermove", (event) => {
        if (!pointers.has(event.pointerId)) { this.pick(...place(event)); return; }
        const before = middle(), distance = pointers.size === 2 ? apart() : 0;
        pointers.set(event.pointerId, place(event));
        const after = middle();
        this.move(after[0] - before[0], after[1] - before[1]);
        if (distance) this.zoom(distance / Math.max(apart(), 1), ...after);
      });
      for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
      canvas.addEventListener("dblclick", () => this.reset());
      canvas.addEventListener("pointerleave", () => this.viewer.tell(""));
      canvas.addEventListener("keydown", (event) => {
        const centre = [MARGIN.left + this.inner[0] / 2, MARGIN.top + this.inner[1] / 2];
        const keys = {
          "+": () => this.zoom(0.8, ...centre), "=": () => this.zoom(0.8, ...centre), "-": () => this.zoom(1.25, ...centre), "0": () => this.reset(),
          ArrowLeft: () => this.move(40, 0), ArrowRight: () => this.move(-40, 0), ArrowUp: () => this.move(0, 40), ArrowDown: () => this.move(0, -40),
        };
        if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        keys[event.key]();
      });
    }

    pick(x, y) {
      const { wire, peak_time: time } = this.data;
      let best = 12 ** 2, found = -1;
      for (let i = 0; i < wire.length; i++) {
        const distance = (this.x(wire[i]) - x) ** 2 + (this.y(time[i]) - y) ** 2;
        if (distance < best) { best = distance; found = i; }
      }
      this.viewer.tell(found < 0 ? "" : this.describe(found));
    }

    describe(i) {
      const { data, stored } = this;
      const words = [`${stored.row_name} ${data.wire[i]}`, `${data.peak_time[i].toFixed(1)} ticks`];
      if (data.integral) words.push(`integral ${data.integral[i].toPrecision(4)}`);
      for (const name of this.viewer.content.scores) if (data[name]) words.push(`${name} ${(data[name][i] / 65535).toFixed(3)}`);
      for (const [name, labels] of Object.entries(this.viewer.content.labels)) {
        if (data[name] && data[name][i] !== NONE) words.push(`${name}: ${labels[data[name][i]].name}`);
      }
      return words.join(" · ");
    }
  }

  class Viewer {
    constructor(element) {
      this.element = element;
      this.content = JSON.parse(element.querySelector("script[type='application/json']").textContent);
      this.physical = this.content.physical;
      this.hidden = {};
      element.querySelector(".needs-script").remove();
      this.bar = document.createElement("div");
      this.bar.className = "viewer-bar";
      this.legend = document.createElement("div");
      this.legend.className = "viewer-legend";
      this.told = document.createElement("p");
      this.told.className = "viewer-told";
      this.told.setAttribute("role", "status");
      this.planes = document.createElement("div");
      element.append(this.bar, this.legend, this.told, this.planes);
      this.build();
      new ResizeObserver(() => this.redraw()).observe(this.planes);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
      matchMedia("print").addEventListener("change", () => { for (const plane of this.shown) plane.draw(); });
      this.show();
    }

    choice(title, options, act, value) {
      const label = document.createElement("label");
      const select = document.createElement("select");
      for (const [key, text] of options) select.add(new Option(text, key));
      if (value !== undefined) select.value = value;
      select.addEventListener("change", () => act(select.value));
      label.append(`${title} `, select);
      this.bar.append(label);
      return select;
    }

    build() {
      const { events, colourings } = this.content;
      if (events.length > 1) this.event = this.choice("Event", events.map((event, i) => [i, event.title]), () => { this.fillTpcs(); this.show(); });
      this.tpc = this.choice("TPC", [], () => this.show());
      this.colour = this.choice("Colour", colourings.map((name) => [name, name]), () => this.recolour(), this.content.colour);
      if (events.every((event) => event.planes.every((plane) => plane.pitch_mm))) {
        this.choice("Axes", [["", "wires, ticks"], ["physical", "cm, µs"]], (value) => { this.physical = Boolean(value); this.redraw(); }, this.physical ? "physical" : "");
      } else this.physical = false;
      const all = document.createElement("button");
      all.type = "button";
      all.textContent = "Show all";
      all.addEventListener("click", () => { for (const plane of this.shown) plane.reset(); });
      this.bar.append(all);
      this.fillTpcs();
    }

    get current() { return this.content.events[this.event ? this.event.value : 0]; }

    fillTpcs() {
      const tpcs = [...new Set(this.current.planes.map((plane) => plane.tpc))].sort((a, b) => a - b);
      this.tpc.replaceChildren(new Option("with most hits", ""), ...tpcs.map((tpc) => new Option(tpc, tpc)));
      this.tpc.parentElement.hidden = tpcs.length < 2;
    }

    show() {
      const wanted = this.tpc.value;
      const chosen = new Map();
      for (const plane of this.current.planes) {
        const before = chosen.get(plane.plane);
        if (wanted === "" ? !before || plane.n > before.n : String(plane.tpc) === wanted) chosen.set(plane.plane, plane);
      }
      this.shown = [...chosen.values()].sort((a, b) => b.plane - a.plane).map((stored) => new Plane(this, stored));
      this.planes.replaceChildren(...this.shown.map((plane) => plane.figure));
      this.recolour();
    }

    redraw() { for (const plane of this.shown) plane.later(); }
    tell(text) { this.told.textContent = text; }

    // A colour for each value of a byte, and which of the hits has which.
    colouring() {
      const name = this.colour.value, labels = this.content.labels[name];
      const pack = (colour) => Plane.prototype.packed(colour);
      const colours = new Uint32Array(256).fill(pack(rgb("#888888")));
      const hidden = new Uint8Array(256);
      for (let value = 0; value < (labels ? labels.length : 256); value++) {
        colours[value] = pack(labels ? rgb(labels[value].colour) : viridis(value / 255));
        hidden[value] = labels && this.hidden[`${name}/${value}`] ? 1 : 0;
      }
      return { colours, hidden };
    }

    recolour() {
      const name = this.colour.value, labels = this.content.labels[name];
      for (const plane of this.shown) {
        const values = plane.data[name];
        // Scores have 16 bits; the highest lie above the others.
        plane.index = !values ? new Uint8Array(plane.data.wire.length).fill(NONE) : labels ? values : Uint8Array.from(values, (value) => value >> 8);
        plane.order = !labels && values ? Uint32Array.from(values.keys()).sort((a, b) => values[a] - values[b]) : null;
      }
      this.drawLegend(name, labels);
      this.redraw();
    }

    drawLegend(name, labels) {
      this.legend.replaceChildren();
      if (!labels) {
        const bar = document.createElement("span");
        bar.className = "viewer-scale";
        this.legend.append(`${name} 0 `, bar, " 1");
        return;
      }
      const counts = labels.map((_, value) => this.shown.reduce((sum, plane) => sum + plane.index.reduce((n, at) => n + (at === value), 0), 0));
      labels.forEach((label, value) => {
        if (!counts[value]) return;
        const button = document.createElement("button");
        button.type = "button";
        const key = `${name}/${value}`;
        button.setAttribute("aria-pressed", String(!this.hidden[key]));
        const dot = document.createElement("span");
        dot.className = "viewer-dot";
        dot.style.background = label.colour;
        button.append(dot, `${label.name} (${counts[value].toLocaleString("en")})`);
        button.addEventListener("click", () => { this.hidden[key] = !this.hidden[key]; button.setAttribute("aria-pressed", String(!this.hidden[key])); this.redraw(); });
        this.legend.append(button);
      });
    }
  }

  for (const element of document.querySelectorAll(".viewer")) new Viewer(element);
})();
