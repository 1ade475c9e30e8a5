# SPDX-License-Identifier: Apache-2.0
"""neutron-server's application, with every model imported first.

Without service plugins, neutron 29 answers 500 to GET /ports until the port-forwarding model, of which it uses a back reference, has been
imported by something else and SQLAlchemy's mappers were configured.
"""

from neutron.db.migration.models import head  # noqa: F401
from neutron.wsgi.api import application  # noqa: F401
from sqlalchemy import orm

orm.configure_mappers()
