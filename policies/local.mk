# policies: data only
