// The panels' words: every language has every text, no other, with the same values in it.

import assert from "node:assert/strict"
import { readdirSync, readFileSync } from "node:fs"
import { test } from "node:test"

import { bytesText, duration } from "../../web/levels.mjs"
import { LANGUAGES, say, setLanguage } from "../../web/words.mjs"

const folder = new URL("../../web/", import.meta.url)
const names = readdirSync(folder).filter((name) => name.endsWith("js") && !name.startsWith("words"))
const source = names.map((name) => readFileSync(new URL(name, folder), "utf8")).join("\n")
const slots = (text) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort()

for (const [language, texts] of Object.entries(LANGUAGES)) {
  test(`${language}: every text said is there, in the same figures, and no text is left over`, () => {
    const said = [...source.matchAll(/\bsay\(\s*"([^"]+)"/g)].map(([, text]) => text)
    assert.ok(said.length > 30)
    assert.deepEqual(said.filter((text) => !(text in texts)), [])
    assert.deepEqual(Object.keys(texts).filter((text) => !source.includes(`"${text}"`)), [])
    assert.deepEqual(Object.keys(texts), Object.keys(LANGUAGES.zh))
    for (const [text, translated] of Object.entries(texts)) assert.deepEqual(slots(translated), slots(text), text)
  })
}

test("the language is chosen by name; an unknown one is English", () => {
  setLanguage("zh")
  assert.equal(say("Unpin"), "取消固定")
  assert.equal(duration(200), "3 分 20 秒")
  assert.equal(bytesText({ fp16: 2e9, fp8: 1e9 }), "fp16 下 2.000 GB，fp8 下 1.000 GB")
  for (const name of ["xx", undefined, "constructor"]) {
    setLanguage(name)
    assert.equal(say("{count} sets", { count: 3 }), "3 sets")
  }
})

test("what a plan says is never taken for a text with values", () => {
  setLanguage("en")
  assert.equal(say("{size}. ", { size: "{size}" }), "{size}. ")
})
