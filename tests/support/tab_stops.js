// Where the focus is, and whether it is seen; what has had it is marked.
() => {
  const node = document.activeElement;
  node.setAttribute("data-reached", "");
  const { outlineStyle, outlineWidth } = getComputedStyle(node);
  const unreached = [...document.querySelectorAll("a, button, input, select, textarea, summary, [role=region]")]
    .filter((each) => each.checkVisibility() && !each.disabled && !each.hasAttribute("data-reached"));
  return {
    tag: node.tagName,
    id: node.id,
    text: node.textContent.trim(),
    ring: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2,
    unreached: unreached.map((each) => each.outerHTML.slice(0, 120)),
  };
}
