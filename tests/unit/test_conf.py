# SPDX-License-Identifier: Apache-2.0
import io
import pathlib

import pytest
from oslo_config import cfg, generator

from nova_migcheck import conf as confs
from nova_migcheck.policies import policy

SAMPLE = pathlib.Path(__file__).parents[2] / 'etc' / 'nova-migcheck.conf.sample'


def parse(tmp_path, body=''):
    path = tmp_path / 'nova.conf'
    path.write_text(f'[migcheck]\n{body}\n')
    conf = cfg.ConfigOpts()
    conf([], project='nova', default_config_files=[str(path)])
    confs.register(conf)
    return conf.migcheck


@pytest.mark.parametrize('body, said', [
    ('mode = maybe', 'enforce'), ('on_failure = reject,clock:perhaps', 'perhaps'), ('on_unknown = a:warn,a:reject', 'a is set twice'),
    ('on_missing = warn,reject', 'set twice'), ('on_stale = :warn', 'CHECK:POLICY'), ('migration_networks = 10.0.0.0/40', '10.0.0.0/40'),
    ('also_for = boot', 'boot'), ('check_interval = 1', '10'), ('check_interval = often', 'often'), ('probe_timeout = 0', '0.1'),
    ('nova_cpu_check = off', 'keep'), ('on_error = crash', 'accept'), ('events = perhaps', 'perhaps'), ('stale_after = 3', '30'),
])
def test_a_wrong_value_stops_the_service_with_oslo_config_s_own_error(tmp_path, body, said):
    with pytest.raises(cfg.ConfigFileValueError) as error:
        parse(tmp_path, body)
    assert said in str(error.value)
    assert body.split(' ')[0] in str(error.value) and 'nova.conf' in str(error.value)


def test_defaults_are_valid_and_reject_only_what_is_known_to_be_bad(tmp_path):
    group = parse(tmp_path)
    assert group.mode == 'enforce'
    for check in ('cpu', 'whatever'):
        assert policy(group.on_failure, check) == 'reject'
        assert {policy(p, check) for p in (group.on_unknown, group.on_missing, group.on_stale)} == {'warn'}


def test_policies_by_check(tmp_path):
    group = parse(tmp_path, 'on_failure = warn, cpu:reject ,endpoint:ignore')
    assert [policy(group.on_failure, check) for check in ('cpu', 'endpoint', 'address')] == ['reject', 'ignore', 'warn']


def test_networks_are_read_as_networks(tmp_path):
    assert parse(tmp_path, 'migration_networks = 10.77.0.5/24, fd00::/64').migration_networks == ['10.77.0.0/24', 'fd00::/64']


def test_each_option_says_its_unit_or_its_values_and_why():
    for opt in confs.OPTS:
        assert len(opt.help.strip()) > 60, opt.name
        if isinstance(opt, (cfg.IntOpt, cfg.FloatOpt)) and 'hosts' not in opt.name:
            assert any(unit in opt.help for unit in ('econds', 'Days', 'MiB')), opt.name


def test_the_sample_is_what_the_options_say():
    """Generate it anew with: oslo-config-generator --namespace nova_migcheck --output-file etc/nova-migcheck.conf.sample"""
    conf, generated = cfg.ConfigOpts(), io.StringIO()
    generator.register_cli_opts(conf)
    # Not its main(): with Python 3.9 it does not find its own version.
    conf(['--namespace', 'nova_migcheck'], project='oslo-config-generator', version='')
    generator.generate(conf, generated)
    assert SAMPLE.read_text() == generated.getvalue()
