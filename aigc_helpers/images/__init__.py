"""Images: data sets, backgrounds and captions, loss and sampling."""
