// Runs Python beside the page, so that the page stays alive while a network trains. It is started by the button alone.

let python, toJs;

const plain = (result) => {
  const value = result.toJs({ dict_converter: Object.fromEntries, create_pyproxies: false });
  result.destroy();
  return value;
};

async function load() {
  const say = (stage, text) => postMessage({ type: "loading", stage, text });
  const { pyodide: url, wheels } = await (await fetch("packages.json")).json();
  say(1, "Fetching Python …");
  const base = new URL(url, self.location.href).href;
  const { loadPyodide } = await import(base + "pyodide.mjs");
  const pyodide = await loadPyodide({ indexURL: base });
  say(2, "Fetching NumPy …");
  await pyodide.loadPackage("numpy", { messageCallback: () => {} });
  say(3, "Fetching the package …");
  const extractDir = pyodide.runPython("import site; site.getsitepackages()[0]");
  for (const name of wheels) {
    const answer = await fetch(name);
    if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
    pyodide.unpackArchive(await answer.arrayBuffer(), "wheel", { extractDir });
  }
  say(4, "Starting Python …");
  const source = await (await fetch("session.py")).text();
  pyodide.FS.writeFile("/home/pyodide/session.py", source);
  python = pyodide.pyimport("session");
  toJs = pyodide.toPy;
}

const answers = {
  start: ({ data, noise, sizes, activation, seed, ...how }) => plain(python.start.callKwargs({ data, noise, sizes: toJs(sizes), activation, seed, ...taken(how) })),
  change: (how) => plain(python.change.callKwargs(taken(how))),
  run: ({ steps, milliseconds }) => plain(python.run(steps, milliseconds)),
};
const taken = ({ optimizer, lr, decay, batch }) => ({ optimizer, lr, decay, batch });

self.onmessage = async ({ data: message }) => {
  try {
    if (message.type === "load") {
      await load();
      postMessage({ type: "ready" });
    } else {
      postMessage({ type: "view", reply: message.type, run: message.run, view: answers[message.type](message) });
    }
  } catch (error) {
    postMessage({ type: "error", reply: message.type, text: String(error.message ?? error).trim().split("\n").at(-1) });
  }
};
