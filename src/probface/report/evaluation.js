"use strict";
// Charts that can be read by pointer, touch and keyboard; legends that hide curves; buttons that copy.
// The page is complete without it: numbers come from what is drawn, and nothing is fetched.
(() => {
  const SPACE = "\u00a0";

  // The same digits as reading() of evaluation_wording.py.
  function reading(value, percent) {
    const scaled = percent ? 100 * value : value;
    const room = percent ? Math.min(Math.abs(scaled), Math.abs(100 - scaled)) : Math.abs(scaled);
    const digits = room > 0 ? (percent ? 2 : 3) - Math.floor(Math.log10(room)) : 0;
    let [whole, part = ""] = scaled.toFixed(Math.min(9, Math.max(0, digits))).split(".");
    whole = whole.replace(/\B(?=(\d{3})+$)/g, ",");
    part = part.replace(/0+$/, "");
    const text = part ? `${whole}.${part}` : whole;
    return (text === "-0" ? "0" : text).replace("-", "\u2212") + (percent ? SPACE + "%" : "");
  }

  class Axis {
    constructor(text) {
      const [scale, low, high, unit] = text.split(" ");
      this.log = scale === "log";
      [this.low, this.high] = [Number(low), Number(high)];
      this.percent = unit === "percent";
    }
    place(value) {
      const [low, high] = this.log ? [Math.log10(this.low), Math.log10(this.high)] : [this.low, this.high];
      const at = ((this.log ? Math.log10(Math.max(value, this.low)) : value) - low) / (high - low);
      return 100 * Math.min(1, Math.max(0, at));
    }
    value(place) {
      if (!this.log) return this.low + ((this.high - this.low) * place) / 100;
      const [low, high] = [Math.log10(this.low), Math.log10(this.high)];
      return 10 ** (low + ((high - low) * place) / 100);
    }
    shown(value) {
      return reading(value, this.percent);
    }
  }

  const numbers = (text) => (text ? text.split(" ").map(Number) : []);

  class Curve {
    constructor(group, key) {
      this.group = group;
      this.key = key;
      this.label = key.querySelector(".label").textContent;
      this.output = key.querySelector(".value");
      [this.x, this.y] = [numbers(group.dataset.x), numbers(group.dataset.y)];
      this.visible = true;
      const drawn = group.querySelector(".curve");
      this.style = drawn ? drawn.getAttribute("class").replace("curve", "point") : "point";
    }
  }

  class Card {
    constructor(figure) {
      this.figure = figure;
      [this.x, this.y] = [new Axis(figure.dataset.x), new Axis(figure.dataset.y)];
      this.stepped = figure.dataset.kind === "histogram";
      this.plot = figure.querySelector(".plot");
      this.svg = this.plot.querySelector(".lines");
      this.readout = figure.querySelector(".readout");
      const keys = figure.querySelectorAll(".keys li");
      this.curves = [...figure.querySelectorAll(".series")].map((group, place) => new Curve(group, keys[place]));
      this.at = null;
      this.drawCursor();
      this.curves.forEach((curve) => this.makeToggle(curve));
      this.readout.hidden = false;
      this.gather();
      this.clear();
      this.listen();
    }

    // Everything that can be stopped at: each point of a visible curve, from left to right.
    gather() {
      const points = this.curves.filter((curve) => curve.visible).flatMap((curve) => curve.x);
      this.stops = [...new Set(points)].sort((a, b) => a - b);
      this.cursor.setAttribute("aria-disabled", String(this.stops.length === 0));
    }

    drawCursor() {
      const make = (name, style) => {
        const element = document.createElementNS(this.svg.namespaceURI, name);
        element.setAttribute("class", style);
        return element;
      };
      this.cross = make("g", "cross");
      this.line = make("line", "crossline");
      this.line.setAttribute("y1", "0");
      this.line.setAttribute("y2", "100%");
      this.dots = this.curves.map((curve) => {
        const dot = make("circle", curve.style);
        dot.setAttribute("r", "4.5");
        return dot;
      });
      this.cross.append(this.line, ...this.dots);
      this.svg.append(this.cross);
      this.cursor = document.createElement("div");
      this.cursor.className = "cursor";
      const title = this.figure.querySelector("h3").textContent;
      const attributes = { role: "slider", tabindex: "0", "aria-label": `Read the chart: ${title}`,
        "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0" };
      Object.entries(attributes).forEach(([name, value]) => this.cursor.setAttribute(name, value));
      this.plot.append(this.cursor);
    }

    makeToggle(curve) {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.title = "Show or hide this curve";
      button.append(...curve.key.childNodes);
      curve.key.append(button);
      button.addEventListener("click", () => {
        curve.visible = !curve.visible;
        button.setAttribute("aria-pressed", String(curve.visible));
        curve.group.style.display = curve.visible ? "" : "none";
        this.gather();
        this.clear();
      });
    }

    // The curve's height as drawn; see Plot.read of charts.py.
    read(curve, x) {
      let after = curve.x.findIndex((value) => value > x);
      if (after < 0) after = curve.x.length;
      if (after === 0 || (after === curve.x.length && curve.x[after - 1] < x)) return null;
      if (curve.x[after - 1] === x) return curve.y[after - 1];
      const [left, right] = [this.x.place(curve.x[after - 1]), this.x.place(curve.x[after])];
      const [low, high] = [curve.y[after - 1], curve.y[after]];
      const share = right > left ? (this.x.place(x) - left) / (right - left) : 0;
      if (this.stepped || (this.y.log && Math.min(low, high) < this.y.low)) return share < 0.5 ? low : high;
      return this.y.value((1 - share) * this.y.place(low) + share * this.y.place(high));
    }

    show(x) {
      this.at = x;
      const across = this.x.place(x);
      this.line.setAttribute("x1", `${across}%`);
      this.line.setAttribute("x2", `${across}%`);
      const told = [];
      this.curves.forEach((curve, place) => {
        const y = curve.visible ? this.read(curve, x) : null;
        const dot = this.dots[place];
        dot.style.display = y === null ? "none" : "";
        curve.output.textContent = !curve.visible ? "" : y === null ? "\u2013" : this.y.shown(y);
        if (y === null) return;
        dot.setAttribute("cx", `${across}%`);
        dot.setAttribute("cy", `${100 - this.y.place(y)}%`);
        told.push(`${curve.label} ${this.y.shown(y)}`);
      });
      this.cross.style.display = "";
      this.readout.textContent = `${this.readout.dataset.axis}: ${this.x.shown(x)}`;
      this.readout.classList.add("active");
      this.cursor.setAttribute("aria-valuenow", across.toFixed(1));
      this.cursor.setAttribute("aria-valuetext", `${this.readout.textContent}. ${told.join(", ")}`);
    }

    clear() {
      this.at = null;
      this.cross.style.display = "none";
      this.curves.forEach((curve) => { curve.output.textContent = ""; });
      this.readout.textContent = matchMedia("(hover: none)").matches
        ? "Touch the chart to read its values."
        : "Point at the chart, or focus it and press an arrow key, to read its values.";
      this.readout.classList.remove("active");
      this.cursor.setAttribute("aria-valuetext", "no value chosen");
    }

    nearest(place) {
      let best = this.stops[0];
      for (const stop of this.stops) {
        if (Math.abs(this.x.place(stop) - place) < Math.abs(this.x.place(best) - place)) best = stop;
      }
      return best;
    }

    // To the next stop at least so many hundredths of the plot away, or the last one.
    step(direction, least) {
      if (this.at === null) return direction > 0 ? this.stops[0] : this.stops[this.stops.length - 1];
      const here = this.x.place(this.at);
      const along = direction > 0 ? this.stops : [...this.stops].reverse();
      const next = along.find((stop) => (this.x.place(stop) - here) * direction >= least - 1e-9 && stop !== this.at);
      return next ?? along[along.length - 1];
    }

    listen() {
      const keys = {
        ArrowRight: () => this.step(1, 1), ArrowUp: () => this.step(1, 1),
        ArrowLeft: () => this.step(-1, 1), ArrowDown: () => this.step(-1, 1),
        PageUp: () => this.step(1, 10), PageDown: () => this.step(-1, 10),
        Home: () => this.stops[0], End: () => this.stops[this.stops.length - 1],
      };
      this.cursor.addEventListener("keydown", (event) => {
        if (event.key === "Escape") return this.clear();
        if (!(event.key in keys) || this.stops.length === 0 || event.ctrlKey || event.metaKey || event.altKey) return;
        event.preventDefault();
        this.show(keys[event.key]());
      });
      const follow = (event) => {
        if (this.stops.length === 0) return;
        const box = this.plot.getBoundingClientRect();
        this.show(this.nearest((100 * (event.clientX - box.left)) / box.width));
      };
      this.cursor.addEventListener("pointermove", follow);
      this.cursor.addEventListener("pointerdown", follow);
      this.cursor.addEventListener("pointerleave", (event) => {
        if (event.pointerType === "mouse" && document.activeElement !== this.cursor) this.clear();
      });
      this.cursor.addEventListener("blur", () => this.clear());
    }
  }

  async function copied(source) {
    try {
      await navigator.clipboard.writeText(source.textContent);
      return true;
    } catch {
      const around = source.closest("details");
      if (around) around.open = true;
      getSelection().selectAllChildren(source);
      return document.execCommand("copy");
    }
  }

  function listenForCopies() {
    const status = document.querySelector(".status");
    for (const button of document.querySelectorAll("button[data-copy]")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        const done = await copied(document.getElementById(button.dataset.copy));
        status.textContent = done
          ? "Copied: paste it into your configuration."
          : "The browser does not let the page copy. The text is selected: press Ctrl+C, or Cmd+C on a Mac.";
      });
    }
  }

  document.querySelectorAll(".chart-card[data-kind]").forEach((figure) => new Card(figure));
  listenForCopies();
})();
