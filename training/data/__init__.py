"""What the network learns from: scans as a store of crops, what each step draws of them, views and masks."""
