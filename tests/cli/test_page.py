# SPDX-License-Identifier: Apache-2.0
"""The page of the matrix, in a real browser."""

import base64
import collections
import contextlib
import re

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from nova_migcheck.cli import matrixpage
from nova_migcheck.judging import matrix as matrices
from nova_migcheck.judging.matrix import State
from nova_migcheck.policies import Policies
from tests.cli import fleet_files
from tests.cli.browser import choose, opened
from tests.cli.hosts import MIGCHECK, NOW, Host


def fleet(count):
    """As the databases of the commands' tests: half of the hosts in each of two cells."""
    return [Host(f'compute{n}', 'cell1' if n <= (count + 1) // 2 or count < 10 else 'cell2',
                 fleet_files.report_of(n, NOW), 'disabled' if n % 10 == 7 else 'up')
            for n in range(1, count + 1)]


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    directory = tmp_path_factory.mktemp('pages')
    one_cell = [Host(host.name, 'cell1', host.stats) for host in fleet(1000)]
    long = [Host(f'production-compute-{host.name[7:]:0>4}.dc1.cloud.example.org', 'cell1', host.stats) for host in fleet(9)]
    for name, hosts in (('9', fleet(9)), ('1000', fleet(1000)), ('one-cell', one_cell), ('long', long)):
        page = matrixpage.render(built(hosts), ['cell cell3 cannot be read: it is away.'], 'Not looked at: much.')
        (directory / f'{name}.html').write_text(page, encoding='utf-8')
    return directory


def built(hosts):
    return matrices.build(hosts, Policies.from_conf(MIGCHECK), MIGCHECK, NOW, servers=True)


@pytest.fixture(params=[9, 1000])
def count(request):
    return request.param


@pytest.fixture
def page(driver, pages, count):
    with opened(driver, pages, count):
        yield driver


@pytest.fixture
def nine(driver, pages):
    driver.get(f'file://{pages}/9.html')
    return driver


def targets(driver):
    """Names of the targets in the table, in its order."""
    return driver.execute_script('return [...document.querySelectorAll("#table tbody tr")].map((row) => row.cells[0].textContent)')


def cell(driver, source, target):
    return driver.find_element(By.CSS_SELECTOR, f'[role=gridcell][aria-label^="from {source} to {target}:"]')


def detail(driver):
    return driver.find_element(By.ID, 'detail').text


def test_it_is_ready_soon_and_says_what_it_must(page, count):
    """Within 2 s of its own processor's time; how long it waits for one is not the page's doing."""
    assert 'cell cell3 cannot be read' in page.find_element(By.CSS_SELECTOR, '.note').text
    assert len(targets(page)) == count
    page.execute_cdp_cmd('Performance.disable', {})
    page.execute_cdp_cmd('Performance.enable', {'timeDomain': 'threadTicks'})
    page.refresh()
    assert page.execute_script('return document.documentElement.dataset.ready') is not None
    metrics = {m['name']: m['value'] for m in page.execute_cdp_cmd('Performance.getMetrics', {})['metrics']}
    assert metrics['TaskDuration'] < 2


def test_unfolded_it_holds_only_what_is_in_sight(page, count):
    folded = page.find_element(By.ID, 'group')
    if folded.is_selected():
        folded.click()
    grid = page.find_element(By.ID, 'grid')
    assert grid.get_attribute('aria-colcount') == str(count + 1)
    assert len(page.find_elements(By.CSS_SELECTOR, '[role=gridcell]')) < 3000
    page.execute_script('arguments[0].scrollTo(1e6, 1e6)', grid)
    # The cells are drawn with the next frame.
    page.execute_async_script('requestAnimationFrame(() => requestAnimationFrame(arguments[0]))')
    assert cell(page, f'compute{count}', f'compute{count}').text == '·'


def test_a_million_cells_of_one_cell_of_nova(driver, pages):
    """Unfolded: each pair of hosts is a cell, and each filter and order looks at all of them."""
    driver.get(f'file://{pages}/one-cell.html')
    driver.find_element(By.ID, 'group').click()
    grid = driver.find_element(By.ID, 'grid')
    assert (grid.get_attribute('aria-rowcount'), grid.get_attribute('aria-colcount')) == ('1002', '1001')
    matrix = built([Host(host.name, 'cell1', host.stats) for host in fleet(1000)])
    states = collections.Counter()
    for group in matrix.source_groups():
        for target in range(1000):
            states[str(matrices.state(matrix.verdict(group[0], target)))] += sum(row.host != target for row in group)
    for outcome in ('rejected', 'accepted'):
        choose(driver, 'outcome', outcome)
        assert driver.find_element(By.ID, 'count').text.endswith(f', {states[outcome]} matching cells')
    driver.find_element(By.ID, 'clear').click()
    for order in ('reason', 'host'):
        choose(driver, 'sort', order)
        assert len(set(targets(driver))) == 1000
    driver.execute_script('arguments[0].scrollTo(1e6, 1e6)', grid)
    driver.execute_async_script('requestAnimationFrame(() => requestAnimationFrame(arguments[0]))')
    cell(driver, 'compute999', 'compute993').click()
    assert 'From compute999 to compute993: rejected' in detail(driver) and 'connection refused' in detail(driver)


def test_names_that_end_alike_are_told_apart_by_their_heads(driver, pages):
    """In full where there is room: in the reason and in what is read aloud."""
    driver.get(f'file://{pages}/long.html')
    heads = driver.find_elements(By.CSS_SELECTOR, '#grid .ch')
    assert [head.text for head in heads] == [f'production-compute-{n:04}' for n in range(1, 10)]
    for head in heads + driver.find_elements(By.CSS_SELECTOR, '#grid .rh'):
        assert driver.execute_script('const e = arguments[0]; return e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight',
                                     head), head.text
    cell(driver, 'production-compute-0001.dc1.cloud.example.org', 'production-compute-0002.dc1.cloud.example.org').click()
    assert 'to production-compute-0002.dc1.cloud.example.org: rejected' in detail(driver)


def test_a_cell_is_opened_by_mouse(nine):
    cell(nine, 'compute1', 'compute2').click()
    assert 'From compute1 to compute2: rejected' in detail(nine) and 'lacks avx512bw' in detail(nine)
    cell(nine, 'compute2', 'compute1').click()
    assert 'accepted' in detail(nine) and 'Accepted without a warning' in detail(nine)
    cell(nine, 'compute1', 'compute3').click()
    assert 'connection refused' in detail(nine) and 'keystone catalog' in detail(nine) and 'start placement' in detail(nine)


def test_a_cell_is_opened_by_keyboard(nine):
    grid = nine.find_element(By.ID, 'grid')
    grid.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_LEFT)
    active = nine.find_element(By.ID, grid.get_attribute('aria-activedescendant'))
    # What a screen reader says of it: the names of both, the outcome.
    assert active.get_attribute('aria-label').startswith('from compute1 (1 of its servers) to compute2: accepted')
    grid.send_keys(Keys.ARROW_UP, Keys.ENTER)
    assert nine.switch_to.active_element.get_attribute('id') == 'detail'
    assert 'From compute1 to compute2: rejected' in detail(nine)
    nine.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert nine.switch_to.active_element.get_attribute('id') == 'grid'


def accessible(driver, role):
    """name -> node of the tree that Chromium hands to screen readers."""
    nodes = driver.execute_cdp_cmd('Accessibility.getFullAXTree', {})['nodes']
    return {node['name']['value']: node for node in nodes if not node['ignored'] and node['role']['value'] == role}


def test_a_screen_reader_is_told_source_target_and_outcome_of_each_cell(nine):
    said = {State.ACCEPTED: 'accepted', State.WARNED: 'accepted with a warning', State.REJECTED: 'rejected', State.SAME: 'the same host'}
    matrix = built(fleet(9))
    expected = []
    for row in matrix.rows:
        source = matrix.hosts[row.host].name + (' (1 of its servers)' if row.who else '')
        expected += [f'from {source} to {host.name}: {said[matrix.state([row], [number])]}' for number, host in enumerate(matrix.hosts)]
    found = accessible(nine, 'gridcell')
    # The one at which one stands tells its reasons, too.
    assert sorted(name.partition(', ')[0] for name in found) == sorted(expected)
    grid, = accessible(nine, 'grid').items()
    assert grid[0] == 'Source and target' and 'Arrow keys' in grid[1]['description']['value']
    assert {f'compute{n}' for n in range(1, 10)} <= accessible(nine, 'columnheader').keys() & (
        accessible(nine, 'rowheader').keys() | {'compute1'})
    for role, names in (('searchbox', {'From', 'To', 'Reason'}), ('combobox', {'Outcome', 'Check', 'Sort by'}),
                        ('checkbox', {'Fold equal hosts'}), ('button', {'Clear'})):
        assert names <= accessible(nine, role).keys()


def test_a_screen_reader_follows_to_the_reason_and_back(nine):
    grid = nine.find_element(By.ID, 'grid')
    grid.send_keys(Keys.ARROW_RIGHT)
    active, = (name for name in accessible(nine, 'gridcell') if name.startswith('from compute1 to compute2:'))
    assert active.startswith('from compute1 to compute2: rejected, cpu: target lacks')
    assert _focused(accessible(nine, 'grid')) == ['Source and target']
    grid.send_keys(Keys.ENTER)
    assert _focused(accessible(nine, 'complementary')) == ['From compute1 to compute2: rejected']
    nine.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert _focused(accessible(nine, 'grid')) == ['Source and target']


def _focused(nodes):
    return [name for name, node in nodes.items()
            if any(p['name'] == 'focused' and p['value']['value'] for p in node['properties'])]


def test_filters(page, count):
    choose(page, 'to', 'compute3')
    assert targets(page)[0] == 'compute3' and all(name.startswith('compute3') for name in targets(page))
    choose(page, 'to', '')
    choose(page, 'check', 'endpoint')
    assert targets(page) == [f'compute{n}' for n in range(3, count + 1, 10)]
    choose(page, 'check', '')
    choose(page, 'reason', 'AVX512F')
    assert 'compute2' in targets(page) and 'compute1' not in targets(page)
    choose(page, 'outcome', 'warned')
    assert targets(page) == []
    page.find_element(By.ID, 'clear').click()
    assert len(targets(page)) == count
    choose(page, 'outcome', 'warned')
    assert set(targets(page)) == {f'compute{n}' for n in range(1, count + 1) if n % 10 in (6, 8, 9)}


def test_sorting(nine):
    assert targets(nine) == [f'compute{n}' for n in range(1, 10)]
    choose(nine, 'sort', 'refused')
    assert set(targets(nine)[:2]) == {'compute3', 'compute5'} or targets(nine)[0] in ('compute3', 'compute5')
    choose(nine, 'sort', 'check')
    order = targets(nine)
    # address, cpu, endpoint, report; those with nothing to say at the end.
    assert order.index('compute6') < order.index('compute2') < order.index('compute3') < order.index('compute8')


def test_what_a_host_says_stays_text(nine):
    cell(nine, 'compute1', 'compute6').click()
    assert '</script><img src=x onerror=alert(1)>' in detail(nine)
    assert nine.find_elements(By.TAG_NAME, 'img') == []


def test_narrow_windows(nine):
    """Nothing is scrolled sideways but the grid, and the reason comes into sight when a cell is touched."""
    with window(nine, 400, 800):
        nine.refresh()
        assert nine.execute_script('return document.documentElement.scrollWidth <= innerWidth')
        nine.find_element(By.CSS_SELECTOR, '#view .rejected').click()
        box = nine.execute_script('return document.getElementById("detail-title").getBoundingClientRect().toJSON()')
        assert box['top'] >= 0 and box['bottom'] <= 800


@contextlib.contextmanager
def window(driver, width, height):
    size = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': False}
    driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
    try:
        yield
    finally:
        driver.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_colours_can_be_told_from_their_ground(nine, scheme):
    """Each of the signs has a contrast of 4.5 at least (WCAG 2, AA)."""
    nine.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': [{'name': 'prefers-color-scheme', 'value': scheme}]})
    contrasts = nine.execute_script('''
        const light = (colour) => { const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => v / 255).map(
          (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        return ['accepted', 'warned', 'rejected'].map((name) => { const s = getComputedStyle(document.querySelector('.legend .' + name));
          const [a, b] = [light(s.color), light(s.backgroundColor)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); });''')
    assert min(contrasts) >= 4.5


def test_print_shows_every_host_and_every_reason(nine):
    """On A4, which is narrower than the window: the heads stand where their columns are, and what is folded away is written out."""
    grid = nine.find_element(By.ID, 'grid')
    with paper(nine):
        assert nine.find_element(By.ID, 'table').is_displayed() and not nine.find_element(By.ID, 'controls').is_displayed()
        assert grid.is_displayed()
        lefts = 'return [...document.querySelectorAll(arguments[0])].map((e) => e.getBoundingClientRect().left)'
        heads, cells = (nine.execute_script(lefts, f'#grid {where}') for where in ('.ch', '[aria-rowindex="2"] .c'))
        assert len(heads) == 9 and heads == pytest.approx(cells, abs=1)
        side = nine.execute_script('return document.querySelector("#grid .rh").getBoundingClientRect().right')
        assert cells[0] - side < 4
        assert 'keystone catalog: placement' in nine.find_element(By.ID, 'table').text
        assert 'start placement' in nine.find_element(By.ID, 'table').text
    assert 'start placement' not in nine.find_element(By.ID, 'table').text
    assert len(base64.b64decode(nine.execute_cdp_cmd('Page.printToPDF', {'printBackground': True})['data'])) > 10000


def test_a_thousand_hosts_are_printed_on_a_few_pages(driver, pages):
    """What is alike shares a line, in which each name stands; afterwards the page is as it was."""
    driver.get(f'file://{pages}/1000.html')
    before = driver.find_element(By.ID, 'count').text, len(targets(driver))
    with paper(driver):
        shown = driver.find_elements(By.CSS_SELECTOR, '#table tbody tr')
        assert len(shown) < 20 and driver.find_element(By.ID, 'grid').is_displayed()
        names = re.findall(r'compute\d+', ' '.join(targets(driver)))
        assert sorted(names) == sorted(f'compute{n}' for n in range(1, 1001))
        assert targets(driver)[0].startswith('200 hosts: compute1, compute4, compute7') and 'up 150, disabled 50' in shown[0].text
        high = driver.execute_script('const g = document.getElementById("grid"); return [g.scrollHeight - g.clientHeight, g.scrollWidth]')
        assert high[0] <= 1 and high[1] <= 718
    assert (driver.find_element(By.ID, 'count').text, len(targets(driver))) == before
    printed = base64.b64decode(driver.execute_cdp_cmd('Page.printToPDF', {'printBackground': True})['data'])
    assert 1 <= len(re.findall(rb'/Type ?/Page\b', printed)) <= 15


@contextlib.contextmanager
def paper(driver):
    """As the page is while Chromium prints it on A4."""
    driver.execute_script('dispatchEvent(new Event("beforeprint"))')
    driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': 'print'})
    try:
        with window(driver, 718, 1000):
            yield
    finally:
        driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': ''})
        driver.execute_script('dispatchEvent(new Event("afterprint"))')
