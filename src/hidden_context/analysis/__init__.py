"""From raw reward outputs on disk to the numbers people quote: r², jailbreak rate, accuracy."""
