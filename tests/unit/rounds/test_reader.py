# SPDX-License-Identifier: Apache-2.0
import pytest
from oslo_config import cfg

from nova_migcheck import conf as confs
from nova_migcheck.checks.base import Check
from nova_migcheck.rounds.reader import Reader

FILE = '''
[DEFAULT]
host = compute1
my_ip = 10.0.0.11
[libvirt]
live_migration_inbound_addr = 10.77.0.11
[placement]
auth_type = password
auth_url = http://10.0.0.5:5000/v3
username = placement
password = s3cret
project_name = service
region_name = RegionOne
valid_interfaces = internal, public
[keystone_authtoken]
www_authenticate_uri = http://10.0.0.5:5000
[migcheck]
probe_timeout = 2.5
'''


class Wants(Check):
    NAME = 'wants'
    OPTIONS = {'DEFAULT': ('my_ip', 'no_such_option'),
               'libvirt': ('live_migration_inbound_addr', 'live_migration_scheme'),
               'keystone_authtoken': ('www_authenticate_uri',), 'no_such_group': ('x',)}
    AUTH_GROUPS = ('placement',)

    def run(self, settings):
        yield self.ok('never called')


@pytest.fixture(params=['registered', 'nova absent'])
def reader(request, tmp_path):
    """Read the same file with Nova's options registered, as in a service, and without any."""
    path = tmp_path / 'nova.conf'
    path.write_text(FILE)
    conf = cfg.ConfigOpts()
    conf([], project='nova', default_config_files=[str(path)])
    if request.param == 'registered':
        conf.register_opts([cfg.HostAddressOpt('host'), cfg.HostAddressOpt('my_ip')])
        conf.register_opts([cfg.HostDomainOpt('live_migration_inbound_addr'),
                            cfg.StrOpt('live_migration_scheme', default='tcp')], group='libvirt')
    confs.register(conf)
    reader = Reader(conf)
    reader.path, reader.registered = str(path), request.param == 'registered'
    return reader


def test_a_check_is_told_what_it_asked_for_and_nothing_else(reader):
    told = reader.read(Wants, memory={'a': 1})
    assert told.host == 'compute1' and told.timeout == 2.5 and told.memory == {'a': 1}
    assert told.get('DEFAULT', 'my_ip') == '10.0.0.11'
    assert told.get('libvirt', 'live_migration_inbound_addr') == '10.77.0.11'
    assert told.get('keystone_authtoken', 'www_authenticate_uri') == 'http://10.0.0.5:5000'
    assert told.get('no_such_group', 'x') is None and told.get('DEFAULT', 'no_such_option', 7) == 7
    assert set(told.options) <= {'DEFAULT', 'libvirt', 'keystone_authtoken', 'placement'}


def test_a_default_is_told_where_the_service_knows_one(reader):
    default = 'tcp' if reader.registered else None
    assert reader.read(Wants).get('libvirt', 'live_migration_scheme') == default


def test_an_auth_section_comes_with_its_plugin_s_options(reader):
    placement = reader.read(Wants).options['placement']
    assert placement['auth_type'] == 'password'
    assert placement['username'] == 'placement' and placement['password'] == 's3cret'
    assert placement['auth_url'] == 'http://10.0.0.5:5000/v3'
    assert placement['region_name'] == 'RegionOne'
    assert placement['valid_interfaces'] == ['internal', 'public']


def test_where_a_value_comes_from(reader):
    told = reader.read(Wants)
    assert told.origin('placement', 'auth_url') == f'{reader.path} [placement] auth_url'
    scheme = 'live_migration_scheme'
    assert told.origin('libvirt', scheme) == f'default of [libvirt] {scheme}'


def test_a_plugin_that_is_not_installed_is_left_for_the_check_to_name(reader, tmp_path):
    text = FILE.replace('auth_type = password', 'auth_type = v99carrierpigeon')
    (tmp_path / 'nova.conf').write_text(text)
    conf = cfg.ConfigOpts()
    conf([], project='nova', default_config_files=[str(tmp_path / 'nova.conf')])
    assert Reader(conf).read(Wants).options['placement']['auth_type'] == 'v99carrierpigeon'


def test_nothing_is_registered_in_the_service_s_own_configuration(reader):
    reader.read(Wants)
    with pytest.raises(cfg.NoSuchOptError):
        reader.conf['placement']


def test_what_json_cannot_hold_is_told_as_text():
    conf = cfg.ConfigOpts()
    conf([], project='nova', default_config_files=[])
    conf.register_opts([cfg.DictOpt('live_migration_scheme', default={'a': ['b', None, 1]}),
                        cfg.Opt('connection_uri', default=1 + 2j)], 'libvirt')
    reader = Reader(conf)
    assert reader._value('libvirt', 'live_migration_scheme')[0] == {'a': ['b', None, 1]}
    assert reader._value('libvirt', 'connection_uri')[0] == '(1+2j)'
