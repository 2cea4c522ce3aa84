// Runs the code cells of a notebook in Pyodide, under Node, each after the other as a browser would.
//
//   node run_notebook.mjs FOLDER_OF_PYODIDE FOLDER_OF_WHEELS NOTEBOOK
//
// The last line on standard output is a JSON object: {cells, seconds, slowest, error}. The exit code is 1 if a cell fails.

import { readFileSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [dist, wheels, path] = process.argv.slice(2).map((name) => resolve(name));
const { loadPyodide } = await import(pathToFileURL(join(dist, "pyodide.mjs")));
const pyodide = await loadPyodide({
  indexURL: dist + "/",
  packageCacheDir: dist,
  env: { MPLBACKEND: "Agg", HOME: "/home/pyodide", TQDM_DISABLE: "1" },
});
await pyodide.loadPackage(["numpy", "matplotlib", "packaging"], { messageCallback: () => {} });
const extractDir = pyodide.runPython("import site; site.getsitepackages()[0]");
for (const name of readdirSync(wheels).filter((name) => name.endsWith(".whl"))) {
  pyodide.unpackArchive(new Uint8Array(readFileSync(join(wheels, name))), "wheel", { extractDir });
}

pyodide.runPython(`
import ast, sys, traceback, types, warnings
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
notebook = types.ModuleType("__main__")
sys.modules["__main__"] = notebook  # so that pickle finds the chapter's own classes

def run_cell(source, name):
    "Runs a cell as IPython would; shows the value of its last expression. The traceback if it fails."
    try:
        tree = ast.parse(source, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), notebook.__dict__)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), name, "eval"), notebook.__dict__)
            if value is not None: repr(value)
    except BaseException:
        return traceback.format_exc()
    finally:
        if "matplotlib.pyplot" in sys.modules:
            pyplot = sys.modules["matplotlib.pyplot"]
            for number in pyplot.get_fignums(): pyplot.figure(number).canvas.draw()  # as the browser draws what a cell leaves
            pyplot.close("all")
`);
pyodide.setStdout({ batched: () => {} });

const runCell = pyodide.globals.get("run_cell");
const notebook = JSON.parse(readFileSync(path, "utf-8"));
const result = { cells: 0, seconds: 0, slowest: 0, error: null };
const start = performance.now();
for (const [index, cell] of notebook.cells.entries()) {
  if (cell.cell_type !== "code") continue;
  const source = cell.source.join("");
  if (source.startsWith("%pip install")) continue; // the wheels are unpacked above
  const before = performance.now();
  const failed = runCell(source, `<cell ${index}>`);
  result.cells += 1;
  const seconds = (performance.now() - before) / 1000;
  if (seconds > 5) console.log(`cell ${index}: ${seconds.toFixed(1)} s: ${source.replace(/^#\|.*\n/gm, "").slice(0, 100).replaceAll("\n", " | ")}`);
  result.slowest = Math.max(result.slowest, seconds);
  if (failed) {
    result.error = `cell ${index}:\n${source}\n\n${failed}`;
    break;
  }
}
result.seconds = (performance.now() - start) / 1000;
console.log(JSON.stringify(result));
process.exit(result.error ? 1 : 0);
