// Elements without markup: what a plan says reaches the page as text and as attribute values, never as HTML.

const SVG = "http://www.w3.org/2000/svg"

/** Sets attributes (null and undefined are left out) and appends children; a string becomes text. */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined) element.setAttribute(name, String(value))
  }
  element.append(...children.filter((child) => child !== null))
  return element
}

/** An HTML element. */
export function html(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children)
}

/** An SVG element. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children)
}
