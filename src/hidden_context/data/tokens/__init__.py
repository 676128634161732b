"""Tokens: from texts and chats to token ids, cached, batched and laid out as trees."""
