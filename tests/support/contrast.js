// The contrast (WCAG 2.2, 1.4.3) of every text that is seen, against what is behind it, as the browser renders both.
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map(); // reading a canvas is slow
  const rgba = (colour) => {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      known.set(colour, [...canvas.getImageData(0, 0, 1, 1).data]);
    }
    return known.get(colour);
  };
  const luminance = ([r, g, b]) => [r, g, b].map((byte) => byte / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const colour = rgba(getComputedStyle(each).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  const visit = (node, text, colour) => {
    const [one, other] = [luminance(rgba(colour)), luminance(behind(node))];
    found.push({ text, ratio: (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), paper: other });
  };
  for (const node of document.body.querySelectorAll("*")) {
    const text = [...node.childNodes].filter((each) => each.nodeType === 3).map((each) => each.data.trim()).join("");
    if (node.checkVisibility() && (text || node.matches("input, select, textarea"))) {
      visit(node, text || node.tagName, getComputedStyle(node).color);
    }
  }
  return found;
}
