# SPDX-License-Identifier: Apache-2.0
extensions = ['openstackdocstheme', 'oslo_config.sphinxext', 'cliff.sphinxext']
autoprogram_cliff_application = 'nova-migcheck'
project = 'nova-migcheck'
copyright = 'nova-migcheck developers'
html_theme = 'openstackdocs'
openstackdocs_auto_name = False
openstackdocs_pdf_link = False
openstackdocs_use_storyboard = False
source_suffix = {'.rst': 'restructuredtext'}
exclude_patterns = []
man_pages = [('man/nova-migcheck', 'nova-migcheck',
              'show where servers can be live-migrated, and why not elsewhere', '', 1)]
