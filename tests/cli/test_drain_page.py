# SPDX-License-Identifier: Apache-2.0
"""The page of a drain plan, in a real browser, by mouse and by keyboard; small, and 100 servers
among 1,000 hosts.
"""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from nova_migcheck.cli import drain, drainpage
from nova_migcheck.planning import plan as plans
from nova_migcheck.planning.plan import Move, Plan, Reason, Resident
from tests.cli.browser import choose, opened
from tests.cli.hosts import NOW

HOSTILE = '</script><img src=x onerror=alert(1)>'


def plan(servers, hosts):
    """Every tenth server stays, for reasons of Nova's and of ours; one is not known."""
    moves = []
    for number in range(servers):
        server = Resident(
            f'00000000-0000-4000-8000-{number:012}',
            f'web{number}' if number else HOSTILE,
            'compute1',
            'cell1',
            1024 * (1 + number % 7),
            1 + number % 4,
            10,
            locked=number == 1,
        )
        if number % 10 == 2:
            names = tuple(f'compute{n}' for n in range(2, hosts + 1))
            ours = names[::3]
            others = tuple(name for name in names if name not in ours)
            moves.append(
                Move(
                    server,
                    None,
                    (
                        Reason(
                            'placement',
                            'it is not among the allocation candidates (resources, traits, aggregates)',
                            hosts=others,
                        ),
                        Reason(
                            'endpoint',
                            'http://10.0.0.5:8780: connection refused',
                            'endpoint-refused',
                            ours,
                        ),
                    ),
                )
            )
        elif number == 3:
            moves.append(
                Move(server, None, (Reason('nova', 'placement cannot be asked'),), known=False)
            )
        else:
            moves.append(Move(server, f'compute{2 + number % (hosts - 1)}'))
    numbered = plans.waves(moves, 4, {'compute1': 2**27})
    return Plan(
        ('compute1',),
        tuple(numbered),
        ('cell cell3 cannot be read: it is away; its hosts are not shown.',),
    )


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    directory = tmp_path_factory.mktemp('pages')
    for name, made in (
        ('small', plan(8, 16)),
        ('large', plan(100, 1000)),
        ('empty', Plan(('compute1',), ())),
    ):
        lines = ''.join(f'{line}\n' for line in drain.commands(made))
        (directory / f'{name}.html').write_text(
            drainpage.render(made, lines, 'Not considered: much.', NOW), encoding='utf-8'
        )
    return directory


@pytest.fixture
def page(driver, pages, request):
    with opened(driver, pages, getattr(request, 'param', 'small')):
        yield driver


large = pytest.mark.parametrize('page', ['large'], indirect=True)


def rows(driver, table='moves'):
    """Names of the servers in a table, in its order, as they can be seen."""
    return [
        row.find_element(By.TAG_NAME, 'th').text.splitlines()[0]
        for row in driver.find_elements(By.CSS_SELECTOR, f'#{table} tbody tr')
    ]


def test_it_says_first_what_matters(page):
    body = page.find_element(By.TAG_NAME, 'body').text
    assert (
        body.index('6 of 8 servers can go; 1 cannot: web2; 1 unknown: web3; 2 waves')
        < body.index('What stays')
        < body.index('Who goes')
    )
    assert 'cell cell3 cannot be read' in page.find_element(By.CSS_SELECTOR, '.note').text
    assert (
        'connection refused' in page.find_element(By.ID, 'staying').text
        and 'Not considered: much.' in body
    )
    assert rows(page) == ['web6', 'web5', 'web4', 'web1 locked', 'web7', HOSTILE]
    assert HOSTILE in body and not page.find_elements(By.TAG_NAME, 'img')


def test_by_mouse(page):
    second = page.find_elements(By.CSS_SELECTOR, '#staying summary')[1]
    assert not second.find_element(By.XPATH, '..').get_attribute('open')
    second.click()
    assert second.find_element(By.XPATH, '../p').text == 'compute[2,5,8,11,14]'
    choose(page, 'target', 'compute3')
    assert (
        rows(page) == ['web1 locked'] and page.find_element(By.ID, 'count').text == '1 of 8 servers'
    )
    assert not page.find_element(By.ID, 'staying').is_displayed()
    page.find_element(By.ID, 'clear').click()
    assert len(rows(page)) == 6 and page.find_element(By.ID, 'staying').is_displayed()
    choose(page, 'sort', 'name')
    assert rows(page)[:2] == [HOSTILE, 'web1 locked']


def test_by_keyboard(page):
    body = page.find_element(By.TAG_NAME, 'body')
    body.send_keys('/')
    find = page.switch_to.active_element
    assert find.get_attribute('id') == 'find' and find.get_attribute('value') == ''
    find.send_keys('endpoint-refused')
    assert (
        rows(page, 'staying') == ['web2'] and not page.find_element(By.ID, 'moves').is_displayed()
    )
    find.send_keys(Keys.ESCAPE)
    assert len(rows(page)) == 6
    reached = []
    for _count in range(6):
        page.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(page.switch_to.active_element)
    assert [one.tag_name for one in reached].count('summary') == 2
    summary = next(one for one in reached if one.tag_name == 'summary')
    before = summary.find_element(By.XPATH, '..').get_attribute('open')
    summary.send_keys(Keys.ENTER)
    assert summary.find_element(By.XPATH, '..').get_attribute('open') != before
    commands = page.find_element(By.ID, 'commands')
    assert commands in reached
    chosen = page.execute_script(
        'const t = arguments[0]; t.focus(); return t.value.slice(t.selectionStart, t.selectionEnd)',
        commands,
    )
    assert chosen.count('server migrate --live-migration') == 6 and chosen.count('\nwait\n') == 2


@large
def test_a_hundred_servers_among_a_thousand_hosts(page):
    assert page.find_element(By.ID, 'count').text == '100 of 100 servers' and len(rows(page)) == 89
    first = page.find_element(By.CSS_SELECTOR, '#staying summary')
    assert '(666 hosts: compute[3-4,6-7,9-10,12-13,…])' in first.text
    assert page.find_element(By.TAG_NAME, 'html').size['height'] < 20_000
    choose(page, 'find', 'compute50')
    assert rows(page) and all(
        'compute50' in row.text for row in page.find_elements(By.CSS_SELECTOR, '#moves tbody tr')
    )


@pytest.mark.parametrize('page', ['small', 'large'], indirect=True)
def test_nothing_is_wider_than_a_small_window(page):
    page.execute_cdp_cmd(
        'Emulation.setDeviceMetricsOverride',
        {'width': 500, 'height': 800, 'deviceScaleFactor': 1, 'mobile': False},
    )
    try:
        assert page.execute_script('return document.documentElement.scrollWidth') <= 500
    finally:
        page.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})


@pytest.mark.parametrize('page', ['empty'], indirect=True)
def test_an_empty_host(page):
    assert 'No server is left: the host is empty.' in page.find_element(By.TAG_NAME, 'body').text
    assert not page.find_element(By.ID, 'controls').is_displayed() and not page.find_elements(
        By.TAG_NAME, 'table'
    )


def test_it_can_be_read_without_a_script(page, pages):
    page.execute_cdp_cmd('Emulation.setScriptExecutionDisabled', {'value': True})
    try:
        page.refresh()
        assert (
            'web6' in page.find_element(By.ID, 'moves').text
            and not page.find_element(By.ID, 'controls').is_displayed()
        )
    finally:
        page.execute_cdp_cmd('Emulation.setScriptExecutionDisabled', {'value': False})
