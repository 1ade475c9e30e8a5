'use strict';
(() => {
  const $ = (id) => document.getElementById(id);
  const collator = new Intl.Collator('en', { numeric: true });
  const tables = ['staying', 'moves']
    .map($)
    .filter(Boolean)
    .map((table) => ({ table, body: table.tBodies[0], rows: [...table.tBodies[0].rows] }));
  const texts = new Map(
    tables.flatMap(({ rows }) => rows.map((row) => [row, row.textContent.toLowerCase()])),
  );
  const numbers = { order: 1, memory: -1 };
  const update = () => {
    const find = $('find').value.trim().toLowerCase(),
      target = $('target').value,
      sort = $('sort').value;
    let shown = 0;
    for (const { table, body, rows } of tables) {
      const kept = rows.filter(
        (row) => texts.get(row).includes(find) && (!target || row.dataset.to === target),
      );
      kept.sort((a, b) =>
        sort in numbers
          ? numbers[sort] * (a.dataset[sort] - b.dataset[sort])
          : collator.compare(a.dataset[sort], b.dataset[sort]) || a.dataset.order - b.dataset.order,
      );
      body.replaceChildren(...kept);
      table.closest('section').hidden = !kept.length && rows.length > 0;
      shown += kept.length;
    }
    $('count').textContent = `${shown} of ${texts.size} servers`;
  };
  const filters = ['find', 'target', 'sort'];
  for (const id of filters) $(id).addEventListener('input', update);
  $('controls').addEventListener('submit', (event) => event.preventDefault());
  $('clear').addEventListener('click', () => {
    for (const id of filters) $(id).value = id === 'sort' ? 'order' : '';
    update();
    $('find').focus();
  });
  // On paper no reason can be opened.
  let opened = [];
  addEventListener('beforeprint', () => {
    opened = [...document.querySelectorAll('details:not([open])')];
    for (const details of opened) details.open = true;
  });
  addEventListener('afterprint', () => {
    for (const details of opened) details.open = false;
    opened = [];
  });
  // "/" goes to the search from anywhere but a field.
  addEventListener('keydown', (event) => {
    if (event.key === '/' && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      $('find').focus();
      event.preventDefault();
    }
    if (event.key === 'Escape' && document.activeElement === $('find')) {
      $('find').value = '';
      update();
    }
  });
  if ($('commands')) $('commands').addEventListener('focus', () => $('commands').select());
  $('controls').hidden = !texts.size;
  update();
  document.documentElement.dataset.ready = Math.round(performance.now());
})();
