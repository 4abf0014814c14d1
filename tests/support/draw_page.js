// Draw the comparison's page on a stand-in for a browser, and print which elements and texts it made.
"use strict";
const fs = require("fs");
const page = fs.readFileSync(process.argv[2], "utf8");
const [, text] = page.match(/<script type="application\/json" id="data">([\s\S]*?)<\/script>/);
const [, script] = page.match(/<script>([\s\S]*?)<\/script>/);
const tags = new Set(), texts = [], byId = {};
let rows = 0;

class Element {
  constructor(tag) { this.tag = tag; this.style = {}; this.dataset = {}; this.classList = {toggle() {}}; this.value = ""; this.checked = true; tags.add(tag); if (tag === "tr") rows += 1; }
  setAttribute(name) { if (/^on/i.test(name)) throw new Error(`the attribute ${name}`); }
  addEventListener(name, call) { if (typeof call !== "function") throw new Error("text as code"); }
  append(...children) { for (const child of children) if (!(child instanceof Element)) texts.push(String(child)); }
  replaceChildren(...children) { this.append(...children); }
  get textContent() { return text; }
  set textContent(value) { texts.push(String(value)); }
  set innerHTML(value) { throw new Error("markup"); }
  set outerHTML(value) { throw new Error("markup"); }
  insertAdjacentHTML() { throw new Error("markup"); }
}
const byTag = (_, tag) => new Element(tag ?? _);
const document = {
  getElementById: id => byId[id] ??= Object.assign(new Element("div"), {value: id === "paint" ? "run" : "step"}),
  createElement: byTag, createElementNS: byTag, querySelectorAll: () => [],
};
new Function("document", "matchMedia", script)(document, () => ({matches: false, addEventListener() {}}));
console.log(JSON.stringify({rows, tags: [...tags], texts}));
