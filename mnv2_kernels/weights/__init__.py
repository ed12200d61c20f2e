"""Where networks come from: files, torchvision, chance; and photographs with what networks say of them."""
