"""What training and validation see: an order, a view of each sample, batches of them."""
