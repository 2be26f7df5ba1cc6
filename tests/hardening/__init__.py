"""What a server does under people who mean it harm, and under hours of work."""
