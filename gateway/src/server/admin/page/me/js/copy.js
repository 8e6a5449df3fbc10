// Copies a text. Without a clipboard (a page that came over plain HTTP has none) the text is selected instead.

const COPIED_MS = 2500;

async function copyText(text, node) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    if (node instanceof HTMLInputElement) {
      node.focus();
      node.select();
    } else if (node) {
      const range = document.createRange();
      range.selectNodeContents(node);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
    }
    return false;
  }
}

// A button that copies what `node` shows, and says so where it stands.
function copies(button, node, text = () => node.textContent) {
  const name = button.textContent;
  button.addEventListener('click', async () => {
    const done = await copyText(text(), node);
    say(button, done ? 'Copied' : 'Selected');
    announce('done', done ? 'Copied.' : 'The text is selected: press Ctrl+C, or ⌘C on a Mac.');
    setTimeout(() => say(button, name), COPIED_MS);
  });
}
