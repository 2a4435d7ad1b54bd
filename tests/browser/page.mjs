// Runs the script of an HTML page (standard input) as a browser would: its
// `EventSource` is Node's own, by the WHATWG's book; of the document there is
// just what the page asks for. Sends the form and prints what the page shows
// when the stream is closed.
import { readFileSync } from "node:fs";

const page = readFileSync(0, "utf8");
const script = page.match(/<script>(.*)<\/script>/s)[1];
const value = page.match(/<input [^>]*value="([^"]*)"/)[1];
const elements = { form: { prompt: { value } }, "#answer": { textContent: "" }, "#note": { textContent: "" } };
const document = { querySelector: (selector) => elements[selector] };

// What comes after `close` would come in a browser, too: the page must have closed the stream itself.
let source;
class Watched extends EventSource {
  constructor(url) {
    super(url);
    source = this;
  }
}

new Function("document", "EventSource", script)(document, Watched);
elements.form.onsubmit({ preventDefault() {} });
const end = Date.now() + 20_000;
while (source.readyState !== EventSource.CLOSED && Date.now() < end) {
  await new Promise((resolve) => setTimeout(resolve, 5));
}
console.log(JSON.stringify({
  closed: source.readyState === EventSource.CLOSED,
  answer: elements["#answer"].textContent,
  note: elements["#note"].textContent,
}));
process.exit();
