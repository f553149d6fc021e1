"""What a screen reader, a keyboard and weak eyes need of a page, looked at in the browser: our own
list, in the manner of axe. It says what is wrong, in words; a page in order gives an empty list.
"""

from __future__ import annotations

from playwright.sync_api import Page

# Contrast as WCAG 2 defines it: 4.5 for text, 3 for large text.
_LOOK = """
() => {
  const wrong = [];
  const say = (what, one) => wrong.push(`${what}: ${one.outerHTML.slice(0, 160)}`);
  const isShown = (one) => {
    const style = getComputedStyle(one);
    return one.getClientRects().length > 0 && style.visibility !== "hidden";
  };
  const nameOf = (one) => {
    const by = one.getAttribute("aria-labelledby");
    if (by) return by.split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(" ").trim();
    const alts = [...one.querySelectorAll("img")].map((img) => img.alt).join(" ");
    return (one.getAttribute("aria-label") || one.textContent + alts).trim();
  };
  if (!document.documentElement.lang) wrong.push("the page has no language");
  if (!document.title.trim()) wrong.push("the page has no title");
  for (const tag of ["main", "header"])
    if (document.querySelectorAll(tag).length !== 1) wrong.push(`the page has not one ${tag}`);
  if (document.querySelectorAll("h1").length !== 1) wrong.push("the page has not one h1");
  let level = 0;
  for (const one of document.querySelectorAll("h1,h2,h3,h4,h5,h6")) {
    if (!isShown(one)) continue;
    const next = Number(one.tagName[1]);
    if (next > level + 1) say("a heading skips a level", one);
    level = next;
  }
  const ids = new Set();
  for (const one of document.querySelectorAll("[id]")) {
    if (ids.has(one.id)) say("an id stands twice", one);
    ids.add(one.id);
  }
  for (const one of document.querySelectorAll("[aria-describedby],[aria-labelledby]"))
    for (const name of ["aria-describedby", "aria-labelledby"])
      for (const id of (one.getAttribute(name) ?? "").split(" ").filter(Boolean))
        if (!document.getElementById(id)) say(`${name} names nothing`, one);
  for (const one of document.querySelectorAll("input:not([type=hidden]),select,textarea")) {
    const label = [...(one.labels ?? [])].map((each) => each.textContent).join(" ").trim();
    if (!label && !one.getAttribute("aria-label")) say("a field has no label", one);
  }
  for (const one of document.querySelectorAll("a[href],button,summary"))
    if (!nameOf(one)) say("a link or button has no name", one);
  for (const one of document.querySelectorAll("img"))
    if (!one.hasAttribute("alt")) say("a picture has no alternative", one);
  for (const one of document.querySelectorAll("progress,meter,svg[role=img]"))
    if (!one.getAttribute("aria-label") && !one.querySelector("title")) say("a picture has no name", one);
  for (const one of document.querySelectorAll("nav,[role=region]"))
    if (!nameOf(one)) say("a landmark has no name", one);
  for (const one of document.querySelectorAll("table"))
    if (!one.querySelector("thead th[scope=col]")) say("a table has no headings", one);
  for (const one of document.querySelectorAll("[style]")) say("a style stands in the page", one);
  for (const one of document.querySelectorAll("script:not([src])")) say("a script stands in the page", one);
  for (const one of document.querySelectorAll("[tabindex]"))
    if (one.tabIndex > 0) say("the order of focus is not the order of the page", one);

  const parts = (colour) => {
    const found = colour.match(/[\\d.]+/g).map(Number);
    return { rgb: found.slice(0, 3), alpha: found.length > 3 ? found[3] : 1 };
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((one) => {
      const share = one / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const { rgb, alpha } = parts(getComputedStyle(at).backgroundColor);
      if (alpha === 1) return rgb;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const told = new Set();
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !isShown(one)) continue;
    if (one.closest("option,script,noscript,progress,meter,.unseen,.skip,svg title")) continue;
    const style = getComputedStyle(one);
    const ink = one.closest("svg") ? style.fill : style.color;
    if (one.closest("svg") && one.classList.contains("paper")) continue;
    const [a, b] = [light(parts(ink).rgb), light(ground(one))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    const key = `${ink} on ${ground(one)}`;
    if (ratio < (isLarge ? 3 : 4.5) && !told.has(key)) {
      told.add(key);
      say(`contrast ${ratio.toFixed(2)} (${key})`, one);
    }
  }
  if (document.documentElement.scrollWidth > innerWidth) wrong.push("the page is wider than the screen");
  return wrong;
}
"""


def troubles(page: Page) -> list[str]:
    """What is wrong with the page as it stands."""
    found: list[str] = page.evaluate(_LOOK)
    return found
