'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const $ = (id) => document.getElementById(id);
  const ACCEPTED = 0,
    WARNED = 1,
    REJECTED = 2,
    SAME = 3,
    APART = 4;
  const NAMES = ['accepted', 'warned', 'rejected', 'same', 'apart'];
  const WORDS = [
    'accepted',
    'accepted with a warning',
    'rejected',
    'the same host',
    'in another cell',
  ];
  const SIGNS = ['✓', '!', '✗', '·', ''];
  const { hosts, rows, verdicts, pairs, findings } = data;
  const text = findings.map((f) =>
    [f.check, f.subject, f.detail, f.origin, f.remedy].join(' ').toLowerCase(),
  );
  const level = Uint8Array.from(verdicts, ([no, but]) =>
    no.length ? REJECTED : but.length ? WARNED : ACCEPTED,
  );
  const collator = new Intl.Collator('en', { numeric: true });
  let sources = [],
    targets = []; // the shown rows and columns: {label, members, first}
  let hit = null; // per verdict: whether it matches the filters of check and reason
  let active = { row: 0, col: 0 };
  let printing = false;
  const PAPER = 700; // width of A4 and of letter, in pixels
  const LARGE = { rows: 60, columns: 34 }; // a larger grid is folded initially, and not printed

  const element = (tag, className, content) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (content !== undefined) made.textContent = content;
    return made;
  };
  const option = (select, value) => {
    const made = element('option', '', value);
    made.value = value;
    select.append(made);
  };
  for (const check of [...new Set(findings.map((f) => f.check))].sort()) option($('check'), check);

  // The state of a pair of shown items, whose members are equal. It is called a million times in a
  // row.
  const cells = new Map();
  const cellOf = Int32Array.from(hosts, (h) => {
    if (!cells.has(h.cell)) cells.set(h.cell, cells.size);
    return cells.get(h.cell);
  });
  const hostOf = Int32Array.from(rows, (row) => row.host);
  const ownLevel = Uint8Array.from(hosts, (h) => level[h.own]);
  const pairLevel = pairs.map((line) => Uint8Array.from(line, (verdict) => level[verdict]));
  const own = (target) => hosts[target.first].own;
  const pair = (source, target) => pairs[rows[source.first].kind][hosts[target.first].kind];
  const state = (source, target) => {
    const h = hostOf[source.first],
      t = target.first;
    if (cellOf[h] !== cellOf[t]) return APART;
    if (h === t && target.members.length === 1 && source.members.every((r) => hostOf[r] === t))
      return SAME;
    const a = ownLevel[t],
      b = pairLevel[rows[source.first].kind][hosts[t].kind];
    return a > b ? a : b;
  };
  const sourceName = (r) =>
    hosts[rows[r].host].name +
    (rows[r].who.length ? ' (' + rows[r].who.length + ' of its servers)' : '');
  const targetName = (h) => hosts[h].name;

  const fold = (items, key, name, on) => {
    const groups = new Map();
    items.forEach((item) => {
      const k = on ? key(item) : item;
      if (!groups.has(k)) groups.set(k, { members: [], first: item });
      groups.get(k).members.push(item);
    });
    return [...groups.values()].map((group) => {
      const rest = group.members.length - 1;
      return { ...group, label: name(group.first) + (rest ? ' +' + rest : '') };
    });
  };
  const words = (id) =>
    $(id)
      .value.toLowerCase()
      .split(/[\s,]+/)
      .filter(Boolean);
  const named = (items, name, wanted) =>
    !wanted.length
      ? items
      : items
          .map((item) => ({
            ...item,
            members: item.members.filter((m) =>
              wanted.some((word) => name(m).toLowerCase().includes(word)),
            ),
          }))
          .filter((item) => item.members.length)
          .map((item) => ({
            ...item,
            first: item.members[0],
            label:
              name(item.members[0]) +
              (item.members.length > 1 ? ' +' + (item.members.length - 1) : ''),
          }));

  // The most frequent reason of an item, for sorting.
  const reasonOf = (verdict, check) => {
    const f = findings[[...verdicts[verdict][0], ...verdicts[verdict][1]][0]];
    return f ? (check ? f.check : f.check + ' ' + (f.detail || f.subject)) : '\uffff';
  };
  const sorted = (items, others, isSource) => {
    const by = $('sort').value;
    const name = isSource ? sourceName : targetName;
    if (by === 'host') return items.sort((a, b) => collator.compare(name(a.first), name(b.first)));
    const keys = new Map();
    for (const item of by === 'kind' ? [] : items) {
      const counts = new Map();
      let refused = 0;
      for (const other of others) {
        const [s, t] = isSource ? [item, other] : [other, item];
        const st = state(s, t);
        if (st !== REJECTED && st !== WARNED) continue;
        if (st === REJECTED) refused += other.members.length;
        if (by === 'check' || by === 'reason') {
          const v = !isSource && level[own(t)] ? own(t) : level[pair(s, t)] ? pair(s, t) : own(t);
          counts.set(v, (counts.get(v) || 0) + other.members.length);
        }
      }
      const most = [...counts].sort((a, b) => b[1] - a[1])[0];
      keys.set(
        item,
        by === 'refused' ? -refused : most ? reasonOf(most[0], by === 'check') : '\uffff',
      );
    }
    if (by === 'kind')
      for (const item of items)
        keys.set(
          item,
          isSource ? rows[item.first].kind : hosts[item.first].kind * 1e6 + hosts[item.first].own,
        );
    const compare = (a, b) => (typeof a === 'number' ? a - b : a < b ? -1 : a > b ? 1 : 0);
    return items.sort(
      (a, b) => compare(keys.get(a), keys.get(b)) || collator.compare(name(a.first), name(b.first)),
    );
  };

  const sourceKey = (r) =>
    hosts[rows[r].host].cell + '\0' + rows[r].kind + '\0' + Boolean(rows[r].who.length);
  const targetKey = (h) => hosts[h].cell + '\0' + hosts[h].kind + '\0' + hosts[h].own;
  const update = () => {
    const folded = $('group').checked;
    sources = fold(
      rows.map((_, r) => r),
      sourceKey,
      sourceName,
      folded,
    );
    targets = fold(
      hosts.map((_, h) => h),
      targetKey,
      targetName,
      folded,
    );
    sources = named(sources, sourceName, words('from'));
    targets = named(targets, targetName, words('to'));
    const check = $('check').value,
      reason = $('reason').value.trim().toLowerCase(),
      outcome = NAMES.indexOf($('outcome').value);
    const matching = findings.map(
      (f, i) => (!check || f.check === check) && (!reason || text[i].includes(reason)),
    );
    hit =
      check || reason
        ? Uint8Array.from(
            verdicts,
            ([no, but]) => no.some((i) => matching[i]) || but.some((i) => matching[i]),
          )
        : null;
    filter = (source, target, st) =>
      (outcome < 0 || st === outcome) &&
      (!hit || (st < SAME && (hit[own(target)] || hit[pair(source, target)])));
    let count = 0;
    if (hit || outcome >= 0) {
      const keepRow = new Uint8Array(sources.length),
        keepCol = new Uint8Array(targets.length);
      sources.forEach((source, r) =>
        targets.forEach((target, c) => {
          if (filter(source, target, state(source, target))) {
            keepRow[r] = keepCol[c] = 1;
            count++;
          }
        }),
      );
      sources = sources.filter((_, r) => keepRow[r]);
      targets = targets.filter((_, c) => keepCol[c]);
    }
    sources = sorted(sources, targets, true);
    targets = sorted(targets, sources, false);
    const shown = (items) => items.reduce((sum, item) => sum + item.members.length, 0);
    $('count').textContent =
      `${shown(sources)} sources, ${shown(targets)} targets` +
      (hit || outcome >= 0 ? `, ${count} matching cells` : '');
    active = {
      row: Math.min(active.row, Math.max(0, sources.length - 1)),
      col: Math.min(active.col, Math.max(0, targets.length - 1)),
    };
    table();
    layout();
  };
  let filter = () => true;

  // The table below has the same filter and order as the targets.
  const body = document.querySelector('#table tbody');
  const lines = [...body.rows];
  let drawn = lines.map((_, h) => h).join() + printing;
  const table = () => {
    const order = targets.flatMap((target) => target.members);
    if ($('sort').value === 'host')
      order.sort((a, b) => collator.compare(hosts[a].name, hosts[b].name));
    $('table').hidden = !order.length;
    const wanted = order.join() + printing;
    if (wanted === drawn) return; // moving a thousand lines takes as long as everything else
    drawn = wanted;
    body.replaceChildren(
      ...(printing && order.length > 20 ? foldedLines(order) : order.map((h) => lines[h])),
    );
  };
  // A thousand hosts would be two hundred printed pages, so equal hosts share a line.
  const foldedLines = (order) =>
    fold(order, targetKey, targetName, true).map(({ members }) => {
      const line = lines[members[0]].cloneNode(true);
      const counted = (column) => {
        const counts = new Map();
        for (const h of members) {
          const t = lines[h].cells[column].textContent.trim();
          counts.set(t, (counts.get(t) || 0) + 1);
        }
        return counts;
      };
      line.cells[0].textContent =
        (members.length > 1 ? members.length + ' hosts: ' : '') +
        members.map(targetName).join(', ');
      line.className = line.cells[0].className = 'many';
      line.cells[2].textContent = [...counted(2)]
        .map(([t, n]) => t + (members.length > 1 ? ' ' + n : ''))
        .join(', ');
      line.cells[4].lastChild.textContent =
        ' ' + [...counted(4).keys()].map((t) => t.replace(/^\S+ /, '')).join(', ');
      return line;
    });

  // The grid holds only the visible cells, so a million cells are as fast as a thousand.
  const grid = $('grid'),
    space = $('space'),
    view = $('view');
  const size = {};
  // Heads fit the longest name, without a domain that all hosts share.
  const domains = new Set(hosts.map((h) => h.name.slice(h.name.indexOf('.') >>> 0)));
  const domain = domains.size === 1 ? [...domains][0] : '';
  const short = (item) => (domain ? item.label.replace(domain, '') : item.label);
  const pen = document.createElement('canvas').getContext('2d');
  pen.font = '700 12.5px system-ui, sans-serif';
  const room = (items, least, most) => {
    const longest = items.reduce(
      (found, item) => (short(item).length > found.length ? short(item) : found),
      '',
    );
    return Math.round(Math.min(most, Math.max(least, pen.measureText(longest).width + 20)));
  };
  const layout = () => {
    const narrow = innerWidth <= 760;
    size.size = parseFloat(getComputedStyle(document.documentElement).getPropertyValue('--size'));
    size.side = room(sources, 84, narrow ? 124 : 320);
    size.top = room(targets, 64, narrow ? 120 : 200);
    if (printing)
      size.size = Math.max(
        12,
        Math.min(size.size, Math.floor((PAPER - size.side) / Math.max(1, targets.length))),
      );
    // A printed page is narrower than the window, so fix the sizes.
    for (const name of ['size', 'side', 'top'])
      grid.style.setProperty('--' + name, size[name] + 'px');
    const width = size.side + targets.length * size.size + 2,
      height = size.top + sources.length * size.size + 2;
    space.style.width = width + 'px';
    space.style.height = height + 'px';
    grid.style.height =
      (printing ? height : Math.min(height + 18, Math.max(240, innerHeight * 0.7))) + 'px';
    grid.style.maxWidth = Math.max(width + 18, 240) + 'px';
    grid.setAttribute('aria-rowcount', sources.length + 1);
    grid.setAttribute('aria-colcount', targets.length + 1);
    $('grid-section').classList.toggle(
      'large',
      sources.length > LARGE.rows || targets.length > LARGE.columns,
    );
    draw();
  };
  const draw = () => {
    const { size: s, side, top } = size;
    const all = [side + targets.length * s + 2, top + sources.length * s + 2];
    const [wide, high] = printing
      ? all
      : [Math.min(grid.clientWidth, all[0]), Math.min(grid.clientHeight, all[1])];
    view.style.width = wide + 'px';
    view.style.height = high + 'px';
    const x = grid.scrollLeft,
      y = grid.scrollTop;
    const c0 = Math.max(0, Math.floor(x / s)),
      c1 = Math.min(targets.length, Math.ceil((x + wide - side) / s) + 1);
    const r0 = Math.max(0, Math.floor(y / s)),
      r1 = Math.min(sources.length, Math.ceil((y + high - top) / s) + 1);
    const out = document.createDocumentFragment();
    const heads = element('div');
    heads.setAttribute('role', 'row');
    heads.setAttribute('aria-rowindex', 1);
    const corner = element('div', 'corner', 'from ↓ to →');
    corner.setAttribute('role', 'columnheader');
    corner.setAttribute('aria-colindex', 1);
    heads.append(corner);
    for (let c = c0; c < c1; c++) {
      const head = element('div', 'ch' + (c === active.col ? ' hot' : ''), short(targets[c]));
      head.setAttribute('role', 'columnheader');
      head.setAttribute('aria-colindex', c + 2);
      head.title = targets[c].label;
      head.style.left = side + c * s - x + 'px';
      heads.append(head);
    }
    out.append(heads);
    for (let r = r0; r < r1; r++) {
      const line = element('div');
      line.setAttribute('role', 'row');
      line.setAttribute('aria-rowindex', r + 2);
      const head = element('div', 'rh' + (r === active.row ? ' hot' : ''), short(sources[r]));
      head.setAttribute('role', 'rowheader');
      head.setAttribute('aria-colindex', 1);
      head.title = sources[r].label;
      head.style.top = top + r * s - y + 'px';
      line.append(head);
      for (let c = c0; c < c1; c++) {
        const st = state(sources[r], targets[c]);
        const on = r === active.row && c === active.col;
        const cell = element(
          'div',
          'c ' + NAMES[st] + (filter(sources[r], targets[c], st) ? '' : ' dim') + (on ? ' on' : ''),
          SIGNS[st],
        );
        cell.setAttribute('role', 'gridcell');
        cell.setAttribute('aria-colindex', c + 2);
        if (on) {
          cell.id = 'active';
          cell.setAttribute('aria-selected', 'true');
        }
        cell.setAttribute(
          'aria-label',
          `from ${sources[r].label} to ${targets[c].label}: ${WORDS[st]}` +
            (on ? brief(sources[r], targets[c], st) : ''),
        );
        cell.dataset.at = r + ' ' + c;
        cell.style.left = side + c * s - x + 'px';
        cell.style.top = top + r * s - y + 'px';
        line.append(cell);
      }
      out.append(line);
    }
    view.replaceChildren(out);
    if (sources.length && targets.length) grid.setAttribute('aria-activedescendant', 'active');
    else grid.removeAttribute('aria-activedescendant');
  };

  const reasons = (source, target) =>
    [[], []].map((_, k) =>
      [...verdicts[own(target)][k], ...verdicts[pair(source, target)][k]].map((i) => findings[i]),
    );
  const brief = (source, target, st) => {
    if (st >= SAME) return '';
    const [no, but] = reasons(source, target);
    return [...no, ...but].map((f) => ', ' + f.check + ': ' + (f.detail || f.subject)).join('');
  };
  const who = (items, name) =>
    items.members.length > 1
      ? items.members.length + ': ' + items.members.map(name).join(', ')
      : '';
  const show = () => {
    const source = sources[active.row],
      target = targets[active.col];
    if (!source || !target) return;
    const st = state(source, target);
    $('detail-title').textContent = `From ${source.label} to ${target.label}: ${WORDS[st]}`;
    const made = [];
    if (st < SAME) {
      const [no, but] = reasons(source, target);
      const list = element('ul');
      for (const [kind, found] of [
        ['rejected', no],
        ['warned', but],
      ])
        for (const f of found) {
          const item = element('li');
          item.append(
            element('span', kind, f.check),
            ' ',
            (f.detail && f.detail.includes(f.subject)) || !f.subject
              ? f.detail
              : f.subject + (f.detail ? ': ' + f.detail : ''),
          );
          if (f.scope) item.append(` (matters to servers with ${f.scope})`);
          if (f.origin) item.append(element('span', 'origin', 'from ' + f.origin));
          if (f.remedy) item.append(element('span', 'remedy', '→ ' + f.remedy));
          list.append(item);
        }
      made.push(list.children.length ? list : element('p', '', 'Accepted without a warning.'));
    } else
      made.push(
        element(
          'p',
          '',
          st === SAME
            ? 'The server is already on that host.'
            : 'Nova does not live-migrate between cells.',
        ),
      );
    for (const [label, names] of [
      ['Sources', who(source, sourceName)],
      ['Targets', who(target, targetName)],
    ])
      if (names) {
        made.push(element('p', 'who', label + ', ' + names));
      }
    const servers = source.members.flatMap((r) => rows[r].who);
    if (servers.length)
      made.push(element('p', 'who', 'Servers whose UUID begins with: ' + servers.join(', ')));
    $('detail-body').replaceChildren(...made);
  };
  const reveal = () => {
    const { size: s, side, top } = size;
    const left = active.col * s,
      up = active.row * s;
    if (left < grid.scrollLeft) grid.scrollLeft = left;
    else if (left + s + side > grid.scrollLeft + grid.clientWidth)
      grid.scrollLeft = left + s + side - grid.clientWidth;
    if (up < grid.scrollTop) grid.scrollTop = up;
    else if (up + s + top > grid.scrollTop + grid.clientHeight)
      grid.scrollTop = up + s + top - grid.clientHeight;
    draw();
  };

  let asked = false;
  const soon = () => {
    if (!asked) {
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        draw();
      });
    }
  };
  grid.addEventListener('scroll', soon, { passive: true });
  addEventListener('resize', layout);
  // On paper no reason can be opened, and nothing scrolls.
  let opened = [],
    unfolded = false;
  addEventListener('beforeprint', () => {
    printing = true;
    unfolded = !$('group').checked && $('grid-section').classList.contains('large');
    if (unfolded) $('group').checked = true;
    update();
    opened = [...document.querySelectorAll('details:not([open])')];
    for (const details of opened) details.open = true;
  });
  addEventListener('afterprint', () => {
    printing = false;
    for (const details of opened) details.open = false;
    opened = [];
    if (unfolded) $('group').checked = false;
    update();
  });
  grid.addEventListener('click', (event) => {
    const at = event.target.dataset.at;
    if (!at) return;
    const [row, col] = at.split(' ').map(Number);
    active = { row, col };
    draw();
    show();
    // In a narrow window it is below the grid.
    $('detail').scrollIntoView({ block: 'nearest' });
  });
  grid.addEventListener('keydown', (event) => {
    const page = Math.max(1, Math.floor((grid.clientHeight - size.top) / size.size) - 1);
    const last = { row: sources.length - 1, col: targets.length - 1 };
    const moves = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      PageUp: [-page, 0],
      PageDown: [page, 0],
      Home: [event.ctrlKey ? -1e9 : 0, -1e9],
      End: [event.ctrlKey ? 1e9 : 0, 1e9],
    };
    if (moves[event.key]) {
      active = {
        row: Math.min(last.row, Math.max(0, active.row + moves[event.key][0])),
        col: Math.min(last.col, Math.max(0, active.col + moves[event.key][1])),
      };
      reveal();
    } else if (event.key === 'Enter' || event.key === ' ') {
      show();
      $('detail').focus();
    } else return;
    event.preventDefault();
  });
  $('detail').addEventListener('keydown', (event) => {
    if (event.key === 'Escape') grid.focus();
  });
  const filters = ['from', 'to', 'outcome', 'check', 'reason', 'sort'];
  for (const id of filters) $(id).addEventListener('input', update);
  $('group').addEventListener('input', update);
  $('controls').addEventListener('submit', (event) => event.preventDefault());
  $('clear').addEventListener('click', () => {
    for (const id of filters) $(id).value = id === 'sort' ? 'host' : '';
    update();
  });
  $('group').checked = hosts.length > LARGE.rows;
  $('controls').hidden = $('grid-section').hidden = false;
  update();
  document.documentElement.dataset.ready = Math.round(performance.now());
})();
