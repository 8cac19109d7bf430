// The pack's own colours, of middle lightness: each reads on the grounds of ComfyUI's dark and light palettes alike.

export const DATA = {
  kept: "#3f86db",
  gone: "#7d828c",
  low: "#a87a10",
  high: "#dc4a30",
  reuse: "#1a8f6c",
  beam: "#7d828c",
  alert: "#bd7008",
  error: "#e5484d",
}
export const SOCKETS = { SKRR_PLAN: "#cf6a1e", SKRR_CALIBRATION: "#1a8f6c", SKRR_PROJECTION: "#8b6fe0" }
// What the panels are drawn on and written with in the two palettes.
export const GROUNDS = { dark: { ground: "#313235", ink: "#ffffff" }, light: { ground: "#e9e9e9", ink: "#171718" } }

/** How a picture of ComfyUI's canvas and its page learn the colours of the pack's sockets and links; what a palette has
 * of its own stays. */
export function colourSockets({ byType, links, style }) {
  for (const [type, colour] of Object.entries(SOCKETS)) {
    if (!byType[type]) byType[type] = colour
    if (!links[type]) links[type] = colour
    const name = `--color-datatype-${type}`
    if (!style.getPropertyValue(name)) style.setProperty(name, colour)
  }
}
