// Helpers for the DOM. They write only what differs, so that focus, selection and scrolling stay,
// and only through text and attributes, so that no name can become markup.

const byId = (id) => document.getElementById(id);

function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) mark(node, name, value);
  node.append(...children);
  return node;
}

function glyph() {
  return svg('svg', { 'class': 'glyph', 'aria-hidden': 'true' }, svg('use'));
}

// Changes the existing text node instead of adding a new one each second.
function say(node, text) {
  const only = node.firstChild;
  if (only === null || only.nextSibling !== null || only.nodeType !== Node.TEXT_NODE) node.textContent = text;
  else if (only.nodeValue !== text) only.nodeValue = text;
}

// `null`, `undefined` and `false` remove the attribute.
function mark(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const text = value === true ? '' : String(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

function show(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

const keptBy = new WeakMap();

// Keeps one child per item: adds, updates, sorts and removes; children that stay are reused.
function keep(parent, items, keyOf, make, update) {
  const kept = keptBy.get(parent) ?? new Map();
  keptBy.set(parent, kept);
  const focused = document.activeElement;
  const wanted = new Map();
  for (const item of items) {
    let key = keyOf(item);
    while (wanted.has(key)) key += '\u0000';
    wanted.set(key, item);
  }
  for (const [key, view] of kept) {
    if (!wanted.has(key)) {
      view.node.remove();
      kept.delete(key);
    }
  }
  let next = parent.firstElementChild;
  for (const [key, item] of wanted) {
    let view = kept.get(key);
    if (!view) {
      view = make(item);
      kept.set(key, view);
    }
    if (view.node === next) next = next.nextElementSibling;
    else parent.insertBefore(view.node, next);
    update(view, item);
  }
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
  return kept;
}

// A region that scrolls must be reachable by keyboard; one that doesn't shouldn't cost a tab stop.
const scrollers = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const region = target.closest('.scroll, pre') ?? target;
    const scrolls = region.scrollWidth > region.clientWidth + 1 || region.scrollHeight > region.clientHeight + 1;
    mark(region, 'tabindex', scrolls ? 0 : null);
  }
});

function watchScroll(region) {
  scrollers.observe(region);
  if (region.firstElementChild) scrollers.observe(region.firstElementChild);
}
