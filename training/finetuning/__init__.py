"""Fine-tuning: chats and preferences, and the data for them: instruction sets, labelled sets, Murphey's own conversations."""
