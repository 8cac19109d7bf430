// The panels' words in the page's language. Each text is its own key, in English; {names} in it are filled in.

import { FR } from "./words_fr.mjs"
import { JA } from "./words_ja.mjs"
import { ZH } from "./words_zh.mjs"

export const LANGUAGES = { fr: FR, ja: JA, zh: ZH }
let texts = {}

/** Chooses the language by ComfyUI's name for it ("zh"); what is not known, as "zh-TW", stays English. */
export function setLanguage(name) {
  texts = Object.hasOwn(LANGUAGES, name) ? LANGUAGES[name] : {}
}

/** `text` in the chosen language, with `values` in the place of its {names}. */
export function say(text, values = {}) {
  return (texts[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => String(values[name]))
}
