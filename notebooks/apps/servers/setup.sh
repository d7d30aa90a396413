# Sets one server of the shop up. MIRROR is the address of the file server.
# Like many such scripts, it never looks whether a step worked.
mkdir -p /opt/shop

# 1. The settings.
echo "workers=4" >>/etc/shop.conf

# 2. The program: always the latest version.
wget -q -O /opt/shop/program "$MIRROR/latest"
chmod 755 /opt/shop/program

# 3. The catalogue: it is big, so it is fetched to /tmp first.
wget -q -O /tmp/catalogue "$MIRROR/cgi-bin/catalogue"
cp /tmp/catalogue /opt/shop/catalogue
rm -f /tmp/catalogue

echo "setup finished"
