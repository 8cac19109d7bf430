// Colours that can be told from their ground in both palettes, and nothing that moves.

import assert from "node:assert/strict"
import { test } from "node:test"

import { colourSockets, DATA, GROUNDS, SOCKETS } from "../../web/colours.mjs"
import { STYLE } from "../../web/style.mjs"

const GRAPHICS = 3 // least contrast of what is drawn, and of text: WCAG 2, level AA
const TEXT = 4.5

const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16))
const hex = (values) => `#${values.map((value) => Math.round(value).toString(16).padStart(2, "0")).join("")}`
const mix = (a, b, share) => hex(channels(a).map((value, n) => share * value + (1 - share) * channels(b)[n]))

function luminance(colour) {
  const linear = channels(colour).map((value) => value / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
}

function contrast(a, b) {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y)
  return (high + 0.05) / (low + 0.05)
}

test("the measure of contrast is the published one", () => {
  assert.equal(contrast("#000000", "#ffffff").toFixed(1), "21.0")
  assert.equal(contrast("#777777", "#ffffff").toFixed(2), "4.48")
})

for (const [palette, { ground, ink }] of Object.entries(GROUNDS)) {
  test(`${palette}: what is drawn stands out from its ground`, () => {
    const weak = Object.entries({ ...DATA, ...SOCKETS }).filter(([name, colour]) => name !== "error" && contrast(colour, ground) < GRAPHICS)
    assert.deepEqual(weak, [])
  })

  test(`${palette}: text is read, quiet text and errors too`, () => {
    const quiet = [...STYLE.matchAll(/\.(quiet|detail|facts dt|tick|name)\b[^{]*\{[^}]*opacity: ([\d.]+)/g)].map(([, , share]) => Number(share))
    assert.ok(quiet.length >= 4)
    for (const share of quiet) assert.ok(contrast(mix(ink, ground, share), ground) >= TEXT, String(share))
    const [, share] = STYLE.match(/\.error \{ color: color-mix\(in srgb, var\(--error\) (\d+)%, currentColor\)/)
    assert.ok(contrast(mix(DATA.error, ink, share / 100), ground) >= TEXT)
  })
}

test("signs in a coloured spot are read", () => {
  assert.ok(contrast("#000000", DATA.alert) >= TEXT)
  assert.ok(contrast("#ffffff", DATA.high) >= GRAPHICS) // the cross of an error, a shape beside its sentence
})

test("the stylesheet has no colour of its own but black, white and fallbacks", () => {
  const own = new Set([...Object.values(DATA), "#000", "#fff"])
  const plain = STYLE.replace(/var\(--[\w-]+, (var\(--[\w-]+, )?#\w+\)+/g, "")
  assert.deepEqual([...plain.matchAll(/#[0-9a-f]{3,8}\b/g)].map(([colour]) => colour).filter((colour) => !own.has(colour)), [])
})

test("nothing in the panels moves, so that prefers-reduced-motion has nothing to still", () => {
  assert.doesNotMatch(STYLE, /transition|animation|@keyframes|scroll-behavior/)
})

test("sockets get their colours, again after a palette took them, and a palette's own stay", () => {
  const properties = new Map()
  const style = { getPropertyValue: (name) => properties.get(name) ?? "", setProperty: (name, value) => properties.set(name, value) }
  const [byType, links] = [{ CLIP: "#fd0", SKRR_PLAN: "" }, { SKRR_PROJECTION: "#123456" }]
  colourSockets({ byType, links, style })
  assert.equal(byType.SKRR_PLAN, SOCKETS.SKRR_PLAN)
  assert.equal(byType.CLIP, "#fd0")
  assert.equal(links.SKRR_PROJECTION, "#123456")
  assert.equal(properties.get("--color-datatype-SKRR_CALIBRATION"), SOCKETS.SKRR_CALIBRATION)
  assert.equal(new Set(Object.values(SOCKETS)).size, 3)
})
