// The page of a graph: choose a card and read of it, find one by name, move and zoom the drawing.
// Texts go into the page as text (`textContent`) and never as marks: strangers wrote them.
'use strict';
(() => {
  const { nodes, texts } = JSON.parse(document.getElementById('facts').textContent);
  const view = document.getElementById('view');
  const sheet = view.querySelector('svg');
  const panel = document.getElementById('panel');
  const search = document.getElementById('search');
  const found = document.getElementById('found');
  // The cards stand in the order of the nodes.
  const cards = [...sheet.querySelectorAll('.node')];
  const lines = [...sheet.querySelectorAll('.line')].map((line) => ({
    line,
    from: Number(line.dataset.from),
    to: new Set(line.dataset.to.split(' ').map(Number)),
  }));
  const size = { width: sheet.width.baseVal.value, height: sheet.height.baseVal.value };
  let chosen = null;

  // Where the drawing is: moved by x and y, and so many times as large.
  const place = { x: 0, y: 0, scale: 1 };
  const FAR = 0.05;
  const NEAR = 3;
  // Smaller than this, names cannot be read.
  const LEGIBLE = 0.45;
  const EDGE = 24;

  // What to do again when the window changes: nothing once somebody moved or zoomed.
  let again = null;

  function show() {
    // So much of the drawing stays in sight that it can be found again.
    const { width, height } = view.getBoundingClientRect();
    const between = (low, value, high) => Math.max(low, Math.min(value, high));
    const rest = 80;
    place.x = between(rest - size.width * place.scale, place.x, width - rest);
    place.y = between(rest - size.height * place.scale, place.y, height - rest);
    // From so far away only the states can be told apart.
    sheet.classList.toggle('far', place.scale < LEGIBLE);
    sheet.style.transform = `translate(${place.x}px, ${place.y}px) scale(${place.scale})`;
  }

  // Zooms so that the point of the view at x and y stays where it is.
  function zoom(times, x, y) {
    again = null;
    const box = view.getBoundingClientRect();
    const scale = Math.max(FAR, Math.min(place.scale * times, NEAR));
    const [left, top] = [x ?? box.width / 2, y ?? box.height / 2];
    place.x = left - (left - place.x) * (scale / place.scale);
    place.y = top - (top - place.y) * (scale / place.scale);
    place.scale = scale;
    show();
  }

  function whole() {
    const { width, height } = view.getBoundingClientRect();
    return Math.max(FAR, Math.min(width / size.width, height / size.height, 1));
  }

  function fit() {
    const { width, height } = view.getBoundingClientRect();
    place.scale = whole();
    place.x = (width - size.width * place.scale) / 2;
    place.y = (height - size.height * place.scale) / 2;
    show();
    again = fit;
  }

  // All of it where that can be read; else its beginning.
  function begin() {
    fit();
    if (place.scale < LEGIBLE && cards.length > 0) {
      place.scale = 0.85;
      place.x = 0;
      place.y = 0;
      show();
      const { width } = view.getBoundingClientRect();
      const box = boxOf(0);
      const middle = width / 2 - (box.left + box.right) / 2;
      // Beside the drawing there is nothing to see.
      place.x = Math.min(0, Math.max(middle, width - size.width * place.scale));
      show();
    }
    again = begin;
  }

  // A card's place in the view.
  function boxOf(at) {
    const card = cards[at].querySelector('.box').getBoundingClientRect();
    const around = view.getBoundingClientRect();
    const [left, top] = [card.left - around.left, card.top - around.top];
    return { left, top, right: left + card.width, bottom: top + card.height };
  }

  // Moves the drawing only where the card is not in sight; enlarges it where nothing could be read.
  function bringInSight(at) {
    again = null;
    const { width, height } = view.getBoundingClientRect();
    if (place.scale < LEGIBLE) {
      const box = boxOf(at);
      zoom(0.8 / place.scale, (box.left + box.right) / 2, (box.top + box.bottom) / 2);
    }
    const box = boxOf(at);
    if (box.left < EDGE || box.right > width - EDGE) {
      place.x += width / 2 - (box.left + box.right) / 2;
    }
    if (box.top < EDGE || box.bottom > height - EDGE) {
      place.y += height / 2 - (box.top + box.bottom) / 2;
    }
    show();
  }

  // An element with attributes and children; a child that is a string is text.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  function button(text, does, attributes = {}) {
    const element = make('button', { type: 'button', ...attributes }, ...[text].flat());
    element.addEventListener('click', does);
    return element;
  }

  function mark(state) {
    const space = 'http://www.w3.org/2000/svg';
    const picture = document.createElementNS(space, 'svg');
    picture.setAttribute('viewBox', '0 0 10 10');
    picture.setAttribute('aria-hidden', 'true');
    const path = document.createElementNS(space, 'path');
    path.setAttribute('d', state.mark);
    picture.append(path);
    return picture;
  }

  function number(text) {
    return /^\d{4,}$/.test(text) ? Number(text).toLocaleString('en-US') : text;
  }

  function list(pairs) {
    if (pairs.length === 0) return null;
    const parts = pairs.flatMap(([name, value]) => [
      make('dt', {}, name),
      make('dd', {}, number(value)),
    ]);
    return make('dl', {}, ...parts);
  }

  function part(title, ...children) {
    const there = children.filter((child) => child !== null);
    return there.length === 0 ? [] : [make('h3', {}, title), ...there];
  }

  // Buttons that lead to other nodes.
  function ways(places) {
    if (places.length === 0) return null;
    const way = (at) => {
      const { name, kind, state } = nodes[at];
      const label = state ? `${name}, ${kind}, ${state.word}` : `${name}, ${kind}`;
      const shown = state ? make('span', { class: `state ${state.class}` }, mark(state)) : null;
      const parts = [shown, name].filter((piece) => piece !== null);
      return make('li', {}, button(parts, () => choose(at, true), { 'aria-label': label, 'data-to': at }));
    };
    return make('ul', { class: 'ways' }, ...places.map(way));
  }

  function files(names) {
    if (names.length === 0) return null;
    return make('ul', {}, ...names.map((name) => make('li', {}, make('code', {}, name))));
  }

  function table({ columns, rows }) {
    const cell = (text) => text === null
      ? make('td', { class: 'none' }, 'null')
      : make('td', {}, make('div', {}, text));
    const head = make('tr', {}, ...columns.map((column) => make('th', { scope: 'col' }, column)));
    const body = rows.map((row) => make('tr', {}, ...row.map(cell)));
    const all = make('table', {}, make('thead', {}, head), make('tbody', {}, ...body));
    return make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Last rows' }, all);
  }

  function rowsOf(node) {
    if (node.table === null) return [];
    const shown = node.table.rows.length;
    if (shown === 0) return part('Rows', make('p', {}, 'It has no rows.'));
    const title = node.rows > shown ? `The last ${shown} rows` : 'Rows';
    return part(title, table(node.table));
  }

  function fill(at) {
    const node = nodes[at];
    const wide = panel.classList.contains('wide');
    const widen = button(wide ? 'narrow' : 'widen', () => {
      widen.textContent = panel.classList.toggle('wide') ? 'narrow' : 'widen';
      bringInSight(chosen);
    });
    const shut = button('\u00d7', () => close(true), { 'aria-label': 'Close', id: 'close' });
    const head = make('div', { class: 'head' },
      make('h2', { tabindex: '-1' }, node.name), widen, shut);
    const state = node.state === null ? [] : [make('p', {},
      make('span', { class: `state ${node.state.class}`, id: 'state' }, mark(node.state), ' ', node.state.word),
      ...(node.reason === null ? [] : [make('span', { class: 'why' }, ` \u2013 ${node.reason}`)]))];
    const open = ([name, text]) =>
      make('details', {}, make('summary', {}, name), make('pre', { tabindex: '0' }, texts[text]));
    panel.replaceChildren(
      head,
      make('span', { class: `what ${node.tint}` }, node.kind),
      ...(node.description === null ? [] : [make('p', {}, node.description)]),
      ...state,
      ...[list(node.told)].filter((child) => child !== null),
      ...part('Reads', ways(node.inputs)),
      ...part('Read by', ways(node.readers)),
      ...part('Writes', files(node.outputs)),
      ...rowsOf(node),
      ...part('Texts', ...node.texts.map(open)),
      ...part('Settings', list(node.settings)),
      ...part('Last run', list(node.last_run)),
    );
    panel.scrollTop = 0;
    panel.setAttribute('aria-label', `Details of ${node.name}`);
  }

  // Marks the lines to and from a node, and whom they lead to.
  function choose(at, read) {
    chosen = at;
    const near = new Set([...nodes[at].inputs, ...nodes[at].readers]);
    cards.forEach((card, nth) => {
      card.classList.toggle('near', near.has(nth));
      if (nth === at) card.setAttribute('aria-current', 'true');
      else card.removeAttribute('aria-current');
    });
    sheet.classList.add('choosing');
    for (const { line, from, to } of lines) {
      const on = from === at || to.has(at);
      line.classList.toggle('on', on);
      if (line.hasAttribute('marker-end')) {
        line.setAttribute('marker-end', on ? 'url(#arrow-on)' : 'url(#arrow)');
      }
    }
    fill(at);
    panel.hidden = false;
    bringInSight(at);
    if (read) panel.querySelector('h2').focus({ preventScroll: true });
    remember(`#${encodeURIComponent(nodes[at].name)}`);
  }

  function close(back) {
    if (chosen === null) return;
    const last = chosen;
    chosen = null;
    panel.hidden = true;
    sheet.classList.remove('choosing');
    cards.forEach((card) => {
      card.classList.remove('near');
      card.removeAttribute('aria-current');
    });
    for (const { line } of lines) {
      line.classList.remove('on');
      if (line.hasAttribute('marker-end')) line.setAttribute('marker-end', 'url(#arrow)');
    }
    if (back) cards[last].focus({ preventScroll: true });
    show();
    remember('#');
  }

  // The address names what is chosen, so that it can be sent to somebody.
  function remember(hash) {
    try {
      history.replaceState(null, '', hash);
    } catch {
      // Some places that show a page have no address to change.
    }
  }

  function choose_named() {
    let name;
    try {
      name = decodeURIComponent(location.hash.slice(1));
    } catch {
      return;
    }
    const at = nodes.findIndex((node) => node.name === name);
    if (at >= 0) choose(at, false);
  }

  // Finding by name.
  let matches = [];
  let turn = -1;
  function find() {
    const wanted = search.value.trim().toLowerCase();
    const fits = (node) => node.name.toLowerCase().includes(wanted);
    matches = wanted === '' ? [] : [...nodes.keys()].filter((at) => fits(nodes[at]));
    turn = -1;
    const hits = new Set(matches);
    cards.forEach((card, at) => card.classList.toggle('aside', wanted !== '' && !hits.has(at)));
    found.textContent = wanted === '' ? '' : `${matches.length} of ${nodes.length}`;
    if (matches.length > 0) bringInSight(matches[0]);
  }
  search.addEventListener('input', find);
  search.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && matches.length > 0) {
      event.preventDefault();
      turn = (turn + (event.shiftKey ? -1 : 1) + matches.length) % matches.length;
      choose(matches[turn], false);
      found.textContent = `${turn + 1} of ${matches.length}`;
    } else if (event.key === 'Escape') {
      event.stopPropagation();
      search.value = '';
      find();
      search.blur();
    }
  });

  // The card beside another: the nearest to the left or to the right that stands about as high.
  function beside(at, way) {
    const middle = (box) => [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
    const [x, y] = middle(boxOf(at));
    let best = null;
    cards.forEach((card, nth) => {
      const [left, top] = middle(boxOf(nth));
      const far = (left - x) * way;
      if (nth !== at && far > 0 && Math.abs(top - y) < 40 * place.scale && (best === null || far < best.far)) {
        best = { nth, far };
      }
    });
    return best?.nth;
  }

  cards.forEach((card, at) => {
    if (nodes[at].state !== null) card.classList.add(`card-${nodes[at].state.class}`);
    card.addEventListener('click', () => choose(at, true));
    card.addEventListener('focus', () => {
      if (card.matches(':focus-visible')) bringInSight(at);
    });
    card.addEventListener('keydown', (event) => {
      const steps = {
        ArrowUp: () => nodes[at].inputs[0],
        ArrowDown: () => nodes[at].readers[0],
        ArrowLeft: () => beside(at, -1),
        ArrowRight: () => beside(at, 1),
      };
      if (event.key === 'Enter' || event.key === ' ') {
        event.preventDefault();
        choose(at, true);
      } else if (Object.hasOwn(steps, event.key)) {
        event.preventDefault();
        const next = steps[event.key]();
        if (next !== undefined) cards[next].focus({ preventScroll: true });
      }
    });
  });

  addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.('input')) return;
    if (event.key === 'Escape') close(true);
    else if (event.key === '/') {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (event.key === '+' || event.key === '=') zoom(1.25);
    else if (event.key === '-') zoom(0.8);
    else if (event.key === '0') fit();
  });
  document.getElementById('in').addEventListener('click', () => zoom(1.25));
  document.getElementById('out').addEventListener('click', () => zoom(0.8));
  document.getElementById('fit').addEventListener('click', fit);

  // The wheel zooms, and moves to the side where it is turned that way.
  view.addEventListener('wheel', (event) => {
    event.preventDefault();
    const unit = event.deltaMode === 0 ? 1 : 30;
    if (!event.ctrlKey && (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))) {
      again = null;
      place.x -= (event.deltaX || event.deltaY) * unit;
      show();
      return;
    }
    const box = view.getBoundingClientRect();
    const turned = Math.max(-300, Math.min(event.deltaY * unit, 300));
    zoom(Math.exp(-turned * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });

  // One pointer moves the drawing, two zoom it. What moved was no click.
  const pointers = new Map();
  let moved = false;
  view.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    if (pointers.size === 0) moved = false;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, from: [event.clientX, event.clientY] });
  });
  view.addEventListener('pointermove', (event) => {
    const pointer = pointers.get(event.pointerId);
    if (pointer === undefined) return;
    const [x, y] = [event.clientX, event.clientY];
    if (!moved && Math.hypot(x - pointer.from[0], y - pointer.from[1]) < 5) return;
    if (!moved) {
      moved = true;
      again = null;
      view.classList.add('moving');
      view.setPointerCapture?.(event.pointerId);
    }
    const other = [...pointers.values()].find((one) => one !== pointer);
    if (other !== undefined) {
      const before = Math.hypot(pointer.x - other.x, pointer.y - other.y);
      const after = Math.hypot(x - other.x, y - other.y);
      const box = view.getBoundingClientRect();
      if (before > 0) zoom(after / before, other.x - box.left, other.y - box.top);
    } else {
      place.x += x - pointer.x;
      place.y += y - pointer.y;
      show();
    }
    pointer.x = x;
    pointer.y = y;
  });
  for (const name of ['pointerup', 'pointercancel']) {
    addEventListener(name, (event) => {
      pointers.delete(event.pointerId);
      if (pointers.size === 0) view.classList.remove('moving');
    });
  }
  view.addEventListener('click', (event) => {
    if (moved) {
      moved = false;
      event.stopPropagation();
    } else if (event.target.closest('.node') === null) {
      close(false);
    }
  }, true);
  addEventListener('resize', () => {
    if (again !== null) again();
    else if (chosen !== null) bringInSight(chosen);
    else show();
  });
  addEventListener('hashchange', choose_named);

  view.classList.add('live');
  begin();
  choose_named();
})();
