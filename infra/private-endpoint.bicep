// A private address for one service in the virtual network.
param serviceName string
param serviceId string
param location string
param tags object
param subnetId string
param dnsZoneId string

@description('The part of the service that the endpoint leads to.')
@allowed(['namespace', 'Sql', 'blob', 'vault'])
param part string

resource endpoint 'Microsoft.Network/privateEndpoints@2024-07-01' = {
  name: 'pe-${serviceName}'
  location: location
  tags: tags
  properties: {
    subnet: {
      id: subnetId
    }
    privateLinkServiceConnections: [
      {
        name: serviceName
        properties: {
          privateLinkServiceId: serviceId
          groupIds: [part]
        }
      }
    ]
  }
}

resource addresses 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-07-01' = {
  parent: endpoint
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: part
        properties: {
          privateDnsZoneId: dnsZoneId
        }
      }
    ]
  }
}
