// Tables that sort by a click on a heading, and show so many rows at a time (data-page).

const kept = new Map(); // {a table's id: how it is sorted, which page is shown}

export function readyTables(root) {
  root.querySelectorAll("table.sortable").forEach(readyTable);
  root.querySelectorAll(".scroll").forEach(reachable);
}

// A region that scrolls can be scrolled with the keyboard, too.
function reachable(region) {
  region.tabIndex = 0;
  region.setAttribute("role", "group");
  const heading = region.closest("section")?.querySelector("h2, h3");
  region.setAttribute("aria-label", heading ? heading.textContent.trim() : "table");
}

function readyTable(table) {
  const state = (table.id && kept.get(table.id)) || { column: -1, down: false, page: 0 };
  if (table.id) kept.set(table.id, state);
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const numbers = head.classList.contains("n");
      state.down = state.column === column ? !state.down : numbers;
      state.column = column;
      state.page = 0;
      arrange(table, heads, state);
    });
  });
  arrange(table, heads, state);
}

function arrange(table, heads, state) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  heads.forEach((head, column) => {
    const order = state.down ? "descending" : "ascending";
    head.setAttribute("aria-sort", column === state.column ? order : "none");
  });
  if (state.column >= 0) {
    const values = new Map(rows.map((row) => [row, valueOf(row.cells[state.column])]));
    rows.sort((one, other) => compare(values.get(one), values.get(other)) * (state.down ? -1 : 1));
    body.append(...rows);
  }
  const size = Number(table.dataset.page);
  if (size && rows.length > size) paginate(table, rows, size, heads, state);
}

function valueOf(cell) {
  const text = cell.dataset.value ?? cell.querySelector("time")?.dateTime ?? cell.textContent.trim();
  const number = Number(text.replaceAll(",", ""));
  return text !== "" && !Number.isNaN(number) ? number : text;
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other), undefined, { numeric: true });
}

function paginate(table, rows, size, heads, state) {
  const pages = Math.ceil(rows.length / size);
  state.page = Math.min(state.page, pages - 1);
  rows.forEach((row, number) => {
    row.hidden = Math.floor(number / size) !== state.page;
  });
  const region = table.closest(".scroll") ?? table;
  let bar = region.nextElementSibling;
  if (!bar || !bar.classList.contains("table-pages")) {
    bar = document.createElement("div");
    bar.className = "pages table-pages";
    region.after(bar);
  }
  const turn = (text, by) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = text;
    button.disabled = state.page + by < 0 || state.page + by >= pages;
    button.addEventListener("click", () => {
      state.page += by;
      paginate(table, rows, size, heads, state);
      bar.querySelectorAll("button")[by < 0 ? 0 : 1].focus();
    });
    return button;
  };
  const words = document.createElement("span");
  const last = Math.min(rows.length, (state.page + 1) * size);
  words.textContent = `${state.page * size + 1} to ${last} of ${rows.length}`;
  bar.replaceChildren(turn("Back", -1), turn("Next", 1), words);
}
