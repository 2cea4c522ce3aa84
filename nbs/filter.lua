-- What Quarto's pages need beyond Quarto; wired as {path: filter.lua, at: pre-ast}. Only for HTML: README.md (gfm) goes past it.
if not quarto.doc.is_format('html:js') then return {} end

local page = pandoc.path.split_extension(pandoc.path.filename(quarto.doc.output_file or ''))
local function raw(text) return pandoc.RawBlock('html', text) end
local function escape(text) return (text:gsub('[&<>"]', { ['&'] = '&amp;', ['<'] = '&lt;', ['>'] = '&gt;', ['"'] = '&quot;' })) end

-- The summary of a cell to be folded with all that it shows, or nil. Any of these folds it:
--   #| fold: "Solution"                          an option of its own
--   metadata.jupyter.outputs_hidden: true        JupyterLab folds the output; the summary is code-summary
--   metadata.tags with "solution"/"prediction"   likewise
--   #| code-fold: true, code-summary: "Solution" what the notebooks have now
local words = { Solution = true, Prediction = true }
local function summary_of(div, code)
  local fold, summary = div.attributes.fold, code and code.attributes['code-summary']
  if fold then return fold ~= 'true' and fold or summary or 'Solution' end
  for _, value in pairs(div.attributes) do  -- Quarto names it quarto-private-1
    if value:find('"outputs_hidden":true', 1, true) then return summary or 'Output' end
  end
  local tags = div.attributes.tags or ''
  if tags:find('"solution"', 1, true) then return summary or 'Solution' end
  if tags:find('"prediction"', 1, true) then return summary or 'Prediction' end
  if code and code.attributes['code-fold'] == 'true' and words[summary] then return summary end
end

local function cell(div)
  if div.classes:includes('launch') and page == 'index' then div.classes:insert('front') return div end
  if not div.classes:includes('cell') then return nil end
  local code
  for _, block in ipairs(div.content) do
    if block.t == 'CodeBlock' and block.classes:includes('cell-code') then code = block break end
  end
  local summary = summary_of(div, code)
  local file = div.attributes.exported  -- #| exported: nn_from_scratch/optim.py, by tools/preview_site.py
  if code and (file or code.attributes['code-summary'] == 'Exported source') then  -- the latter is nbdev's, for #| exports
    code.attributes['code-fold'], code.attributes['code-summary'], code.attributes.filename = nil, nil, file
    div.classes:insert('exported')
  end
  div.attributes.tags, div.attributes.fold, div.attributes.exported = nil, nil, nil
  if not summary then return div end
  if code then code.attributes['code-fold'], code.attributes['code-summary'] = nil, nil end
  return { raw('<details class="fold"><summary>' .. escape(summary) .. '</summary>'), div, raw('</details>') }
end

-- "4 Optimization" in the sidebar: the number gets a column; in the breadcrumb it becomes "Chapter 4", "A The rules" "Appendix A".
-- "I How a network learns" is a part and stays as it is.
local function navigation(span)
  if not span.classes:includes('quarto-markdown-envelope-contents') then return nil end
  local id, text = quarto.base64.decode(span.attributes['render-id'] or ''), pandoc.utils.stringify(span)
  local number, name = text:match('^(%d+%l?) (.+)$')
  if not number then number, name = text:match('^([A-H]) (.+)$') end
  if not number then return nil end
  if id:find('^quarto%-int%-sidebar') then
    span.content = { pandoc.Span(number, { class = 'no' }), pandoc.Space(), pandoc.Span(name) }
  elseif id:find('^quarto%-breadcrumbs') then
    span.content = { pandoc.Str((number:find('%d') and 'Chapter ' or 'Appendix ') .. number) }
  end
  return span
end

return {
  {
    Div = cell,
    Span = navigation,
    -- a picture with a caption has no alt text in Quarto unless it is given one
    Image = function(image)
      if not image.attributes['fig-alt'] and #image.caption > 0 then
        image.attributes['fig-alt'] = pandoc.utils.stringify(image.caption)
        return image
      end
    end,
    -- a display formula and a table scroll by themselves, with the keyboard too
    Math = function(math)
      if math.mathtype == 'DisplayMath' then return pandoc.Span({ math }, { class = 'display', tabindex = '0' }) end
    end,
    Table = function(table)
      -- a row longer than a line makes Markdown give columns the widths of their dashes: let the browser choose
      table.colspecs = table.colspecs:map(function(spec) return { spec[1], nil } end)
      return pandoc.Div({ table }, { class = 'wide', tabindex = '0', role = 'region', ['aria-label'] = 'table' })
    end,
  },
}
