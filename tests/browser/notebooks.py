"""What the tests of JupyterLab and JupyterLite share: a notebook is run through the menu, and what it shows is read."""

import time

# the notebook as it stands in the page; JupyterLab keeps only the visible cells in the document itself
READ = """() => {
  const widget = window.jupyterapp?.shell.currentWidget;
  if (!widget?.content?.model || !widget.context.isReady) return null;
  const cells = widget.content.model.sharedModel.toJSON().cells.filter(cell => cell.cell_type == 'code');
  const text = value => Array.isArray(value) ? value.join('') : String(value ?? '');
  return {
    status: widget.context.sessionContext.session?.kernel?.status ?? 'none',
    cells: cells.length,
    empty: cells.filter(cell => !text(cell.source).trim()).length,
    run: cells.filter(cell => cell.execution_count != null).length,
    figures: cells.flatMap(cell => cell.outputs).filter(output => output.data?.['image/png']).length,
    errors: cells.flatMap(cell => cell.outputs).filter(output => output.output_type == 'error')
      .map(output => output.ename + ': ' + output.evalue),
    stderr: cells.flatMap(cell => cell.outputs).filter(output => output.name == 'stderr').map(output => text(output.text)),
    drawing: cells.filter(cell => text(cell.source).includes('#| label: fig-')).length,
  };
}"""


def wait_for(page, what: str, condition, seconds: float) -> dict:
    "The notebook, once `condition` holds for it."
    end, seen = time.monotonic() + seconds, None
    while time.monotonic() < end:
        seen = page.evaluate(READ)
        if seen and condition(seen): return seen
        page.wait_for_timeout(500)
    raise AssertionError(f"after {seconds:.0f} seconds not {what}: {seen}")


def run_all(page, seconds: float = 300) -> dict:
    "Runs all cells of the open notebook through the menu: Run > Run All Cells; what it shows at the end, or at its first error."
    wait_for(page, "open with a kernel", lambda seen: seen["status"] == "idle", 180)
    start_run(page)
    return wait_for(page, "run to the end", lambda seen: seen["errors"] or (
        seen["status"] == "idle" and seen["run"] >= seen["cells"] - seen["empty"]), seconds)


def start_run(page) -> None:
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu-item", has_text="Run All Cells").first.click()


def check(seen: dict) -> None:
    "Every cell has run, none failed or complained, and each cell that draws has drawn."
    assert seen["errors"] == [] and seen["stderr"] == [], (seen["errors"], seen["stderr"])
    assert seen["run"] == seen["cells"] - seen["empty"]
    assert seen["figures"] >= seen["drawing"] > 0, seen


def show_figure(page) -> int:
    "Brings the first figure into view; its width in pixels, as the browser has drawn it."
    page.evaluate("""() => {
        const content = window.jupyterapp.shell.currentWidget.content;
        const at = content.widgets.findIndex(cell => cell.model.type == 'code'
            && cell.model.outputs.toJSON().some(output => output.data?.['image/png']));
        content.activeCellIndex = at;
        return content.scrollToItem(at, 'end'); }""")
    page.wait_for_selector(".jp-RenderedImage img", timeout=30_000)
    page.wait_for_timeout(1000)
    return page.evaluate("Math.max(...[...document.querySelectorAll('.jp-RenderedImage img')].map(image => image.naturalWidth))")
