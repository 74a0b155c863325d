// A field above each long table: only the rows that hold all of its words are shown.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".md-content table")) {
    const rows = [...table.querySelectorAll("tbody tr")];
    if (rows.length < 25) continue;
    table.dataset.filtered = "";
    const field = document.createElement("input");
    field.type = "search";
    field.className = "table-filter";
    field.placeholder = field.ariaLabel = `Filter ${rows.length} rows, such as "${rows[0].cells[0].textContent}"`;
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every(word => text.includes(word));
      }
    });
    (table.closest(".md-typeset__scrollwrap") || table).before(field);
  }
});
