# SPDX-License-Identifier: Apache-2.0
extensions = ['openstackdocstheme', 'reno.sphinxext']
project = 'nova-migcheck release notes'
copyright = 'nova-migcheck developers'
html_theme = 'openstackdocs'
openstackdocs_auto_name = False
openstackdocs_pdf_link = False
openstackdocs_use_storyboard = False
