"""."""

from furlough.ui.visit import Routes

ROUTES: Routes = {}
