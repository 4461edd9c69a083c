"""Floor 1: what is known about boards, as data; what a layer costs; and the small things every floor stands on."""
