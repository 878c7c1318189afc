"use strict";
for (const viewer of document.querySelectorAll(".viewer")) {
  const stage = viewer.querySelector(".stage");
  if (!stage) continue;
  const control = (role) => viewer.querySelector(`[data-role="${role}"]`);
  const [split, zoom, which] = [control("split"), control("zoom"), control("which")];
  const frame = viewer.querySelector(".window");

  const show = () => {
    const difference = viewer.querySelector("[type=radio]:checked").value === "difference";
    for (const layer of viewer.querySelectorAll("[data-view]")) {
      const wanted = layer.dataset.view === (which ? which.value : "0");
      layer.hidden = !wanted || layer.classList.contains("difference") !== difference;
    }
    viewer.querySelector(".scale").hidden = !difference;
    viewer.querySelector(".divider").hidden = difference;
    viewer.querySelector(".slider").hidden = difference;
  };
  const set = (name, value) => viewer.style.setProperty(name, value);
  const slide = () => { // the slider spans what is seen, and the labels stay in its corners
    const { scrollLeft, scrollTop, clientWidth } = frame;
    set("--split", `${(100 * scrollLeft + split.value * clientWidth) / stage.offsetWidth}%`);
    set("--left", `${scrollLeft}px`);
    set("--right", `${stage.offsetWidth - scrollLeft - clientWidth}px`);
    set("--top", `${scrollTop}px`);
  };
  const magnify = () => {
    const before = Number(viewer.style.getPropertyValue("--zoom")) || 1;
    const [x, y] = [frame.scrollLeft + frame.clientWidth / 2, frame.scrollTop + frame.clientHeight / 2];
    set("--zoom", zoom.value);
    viewer.querySelector("output").value = `${zoom.value}×`;
    frame.classList.toggle("zoomed", zoom.value > 1);
    frame.scrollLeft = (x * zoom.value) / before - frame.clientWidth / 2;
    frame.scrollTop = (y * zoom.value) / before - frame.clientHeight / 2;
    slide();
  };
  const drag = (event) => {
    if (event.buttons !== 1 || event.pointerType === "touch") return; // a finger scrolls
    split.value = (100 * (event.clientX - frame.getBoundingClientRect().left)) / frame.clientWidth;
    slide();
  };

  split.addEventListener("input", slide);
  zoom.addEventListener("input", magnify);
  frame.addEventListener("scroll", slide);
  window.addEventListener("resize", slide);
  stage.addEventListener("pointerdown", drag);
  stage.addEventListener("pointermove", drag);
  stage.addEventListener("dragstart", (event) => event.preventDefault());
  viewer.addEventListener("change", show);
  split.value = 50; // a browser that reloads keeps old positions
  zoom.value = 1;
  viewer.querySelector("[type=radio]").checked = true;
  if (which) which.value = "0";
}

for (const table of document.querySelectorAll(".sortable")) {
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    header.firstElementChild.addEventListener("click", () => {
      const ascending = header.getAttribute("aria-sort") !== "ascending";
      for (const other of headers) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const key = (row) => (column ? row.cells[column].dataset.value : row.cells[0].textContent);
      const number = (text) => (text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text));
      const compare = (a, b) => {
        if (!a || !b) return a ? -1 : b ? 1 : 0; // what has no score stays below
        const order = column ? number(a) - number(b) || 0 : a.localeCompare(b, undefined, { numeric: true });
        return ascending ? order : -order;
      };
      body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
    });
  });
}
