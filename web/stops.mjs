// A plan as the stops of a slider: 0, where only what is free goes, and every level up to where the plan ends. No DOM here.

import { largestLevel, levelFor } from "./levels.mjs"

const DIGITS = [2, 3, 4, 5]

/** [{sparsity, value, level}] in ascending order, the first with level null; `value` is the shortest number that takes
 * the level. Levels that no number takes, as others are as large and better, are left out. */
export function stopsOf(plan) {
  const stops = [{ sparsity: 0, value: 0, level: null }]
  for (const level of plan.levels) {
    const value = DIGITS.map((digits) => floor(level.sparsity, digits)).find((each) => each > 0 && levelFor(plan, each) === level)
    if (value !== undefined) stops.push({ sparsity: level.sparsity, value, level })
  }
  return stops
}

function floor(share, digits) {
  const power = 10 ** digits
  return Math.floor(share * power + 1e-9) / power
}

/** The number of the stop that `sparsity` takes; -1 where it lies beyond the plan's end. */
export function stopOf(plan, stops, sparsity) {
  if (sparsity === 0) return 0
  const level = levelFor(plan, sparsity)
  return level ? stops.findIndex((stop) => stop.level === level) : -1
}

/** Where a stop stands on the slider, 0 to 1. */
export function placeOf(plan, stop) {
  return stop.sparsity / largestLevel(plan).sparsity
}

/** The number of the stop nearest to a place on the slider. */
export function stopNear(plan, stops, place) {
  const away = stops.map((stop) => Math.abs(placeOf(plan, stop) - place))
  return away.indexOf(Math.min(...away))
}

/** The stop that a key leads to from `at`; null for other keys. */
export function nextStop(key, at, count) {
  const within = (to) => Math.min(count - 1, Math.max(0, to))
  switch (key) {
    case "ArrowLeft":
    case "ArrowDown":
      return within(at < 0 ? count - 1 : at - 1)
    case "ArrowRight":
    case "ArrowUp":
      return within(at < 0 ? count - 1 : at + 1)
    case "PageDown":
      return within((at < 0 ? count : at) - 5)
    case "PageUp":
      return within(at < 0 ? count - 1 : at + 5)
    case "Home":
      return 0
    case "End":
      return count - 1
    default:
      return null
  }
}
